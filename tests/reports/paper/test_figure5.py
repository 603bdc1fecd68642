"""mAP along λ and along H, from runs that agree in everything else."""

from __future__ import annotations

import numpy as np

from mlrec.reports.paper.figure5 import series_of, series_table
from mlrec.reports.results import over_seeds, result_of
from mlrec.run_folders.record import Run
from tests.reports.builders import LABELS, SCORES, logits_of, write_run

LOGITS = logits_of(SCORES)


def results(tmp_path, settings):
    rng = np.random.default_rng(0)
    paths = [
        write_run(tmp_path, f"r{k}", config=config, logits=LOGITS + rng.normal(size=(4, len(LABELS))))
        for k, config in enumerate(settings)
    ]
    return over_seeds(result_of(Run.load(path)) for path in paths)


def test_seeds_are_points_means_and_other_settings_other_series(tmp_path):
    lams = [{"lam": lam, "seed": seed} for lam in (0.4, 0.0, 0.1) for seed in (0, 1)]
    others = [{"lam": 0.1, "heads": 4}, {"lam": 0.2, "heads": 4}, {"lam": 0.9, "img_size": 224}, {"head": "average"}]
    rows = results(tmp_path, [*lams, *others])
    one, four = series_of(rows, "lam")
    assert [(point.x, point.n) for point in one.points] == [(0.0, 2), (0.1, 2), (0.4, 2)]
    assert one.name == "ResNet-101 + CSRA, H = 1"
    assert [point.x for point in four.points] == [0.1, 0.2]
    by_lam = {row.lam: row for row in rows if row.heads == 1 and row.resolution == 448}
    assert [point.mAP for point in one.points] == [by_lam[lam].values["mAP"] for lam in (0.0, 0.1, 0.4)]
    assert one.peak.mAP == max(point.mAP for point in one.points)


def test_heads_make_a_series_at_one_lambda(tmp_path):
    rows = results(tmp_path, [{"heads": h, "lam": 0.4} for h in (8, 1, 2)] + [{"heads": 6, "lam": 0.5}])
    (series,) = series_of(rows, "heads")
    assert [point.x for point in series.points] == [1, 2, 8]
    table = series_table([series], "heads", "t")
    assert [row.cells[1] for row in table.rows] == [1, 2, 8]
    assert sum(bool(row.best) for row in table.rows) >= 1
    assert any("chosen on the scored split" in note for note in table.footnotes)


def test_one_point_is_not_a_series(tmp_path):
    assert series_of(results(tmp_path, [{"lam": 0.1}, {"lam": 0.2, "lr": 0.5}]), "lam") == []


def test_points_have_their_own_intervals(tmp_path):
    rows = results(tmp_path, [{"lam": 0.1}, {"lam": 0.2}])
    bounds = {rows[1].paths: {"mAP": (0.25, 0.75)}}
    table = series_table(series_of(rows, "lam", bounds), "lam", "t")
    keys = [column.key for column in table.columns]
    assert keys[-2:] == ["mAP_low", "mAP_high"]
    assert [row.cells[-2:] for row in table.rows] == [(None, None), (0.25, 0.75)]
    assert "mAP_low" not in [column.key for column in series_table(series_of(rows, "lam"), "lam", "t").columns]


def test_a_point_that_was_trained_twice_is_shown_once(tmp_path):
    settings = [{"lam": lam, "seed": seed} for lam, seed in ((0.0, 0), (0.0, 0), (0.0, 1), (0.1, 0))]
    (series,) = series_of(results(tmp_path, settings), "lam")
    assert [(point.x, point.n) for point in series.points] == [(0.0, 2), (0.1, 1)]
