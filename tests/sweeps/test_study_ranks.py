"""The table over several sweeps: ranks, wins and losses, rows that only some have; and the costs of heads."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import rankdata

from mlrec.metrics.bootstrap import paired_difference
from mlrec.reports.render.formats import FORMATS
from mlrec.run_folders.head_costs import HeadCost, HeadCosts
from mlrec.run_folders.sweep_file import Entry, SweepFile
from mlrec.sweeps.study_ranks import study_reports
from mlrec.utils.errors import UsageError
from tests.reports.builders import write_run

NAMES = ("average pooling", "CSRA", "GCN", "Query2Label")
TARGETS = (np.random.default_rng(99).random((80, 3)) < 0.4).astype(np.int8)
STRENGTH = {"average pooling": 1.0, "CSRA": 3.0, "GCN": 1.0, "Query2Label": 0.2}


def logits_of(name: str, seed: int, strength: float) -> np.ndarray:
    rng = np.random.default_rng([seed, 0 if name == "GCN" else len(name)])  # GCN has noise of its own
    return (strength * TARGETS + rng.normal(size=TARGETS.shape)).astype(np.float32)


def write_sweep(root: Path, name: str, strengths: dict[str, float]) -> Path:
    folder, entries = root / name, []
    for variant, strength in strengths.items():
        for seed in (0, 1):
            entry = Entry(f"{variant}-{seed}".replace(" ", "_"), variant, {"lr": 0.01, "seed": seed})
            entries.append(entry)
            write_run(
                folder, entry.name, config={"seed": seed, "head": "average"}, targets=TARGETS, labels=("a", "b", "c"),
                logits=logits_of(variant, seed, strength),
                model={"backbone": "resnet101", "head_parameters": 100 * len(variant)},
            )  # fmt: skip
    SweepFile("Heads", entries, tuned=["lr"]).save(folder)
    return folder


def rows_of(table):
    keys = [column.key for column in table.columns]
    return {row.cells[0]: dict(zip(keys, row.cells, strict=True)) for row in table.rows}


def test_ranks_are_those_of_scipy_and_wins_are_intervals_above_zero(tmp_path: Path) -> None:
    one = write_sweep(tmp_path, "one", STRENGTH)
    two = write_sweep(tmp_path, "two", STRENGTH | {"CSRA": 0.1, "Query2Label": 0.0})
    *studies, overall = study_reports([one, two])
    found, ranks, signs = rows_of(overall), [], {name: [] for name in NAMES}
    for folder, study in zip((one, two), studies, strict=True):
        rows = rows_of(study)
        ranks.append(rankdata([-rows[name]["mAP"] for name in NAMES]))
        strengths = STRENGTH if folder == one else STRENGTH | {"CSRA": 0.1, "Query2Label": 0.0}
        runs = {name: [logits_of(name, seed, strengths[name]) for seed in (0, 1)] for name in NAMES}
        for name in NAMES[1:]:
            between = paired_difference(runs[name], runs[NAMES[0]], TARGETS)
            assert (rows[name]["difference_low"], rows[name]["difference_high"]) == (between.low, between.high)
            signs[name].append(np.sign(between.low) if between.excludes_zero else 0)
    assert [found[name]["rank"] for name in NAMES] == pytest.approx(np.mean(ranks, axis=0))
    assert [row.cells[1] for row in overall.rows] == sorted(row.cells[1] for row in overall.rows)
    for name in NAMES[1:]:
        decisions = [found[name][key] for key in ("wins", "undecided", "losses")]
        assert decisions == [signs[name].count(sign) for sign in (1, 0, -1)]
    assert [found["CSRA"][key] for key in ("wins", "undecided", "losses")] == [1, 0, 1]
    assert found["average pooling"]["wins"] is None
    labels = re.findall(r"\\label{.*}", FORMATS["latex"]([*studies, overall]))
    assert len(set(labels)) == 3
    for text in FORMATS.values():
        assert "Over 2 sweeps" in text([*studies, overall]) or text is FORMATS["csv"]


def test_equal_maps_share_their_mean_place(tmp_path: Path) -> None:
    same = dict.fromkeys(("one", "two", "six"), 2.0)  # names of equal length have equal noise
    folders = [write_sweep(tmp_path, name, same) for name in ("a", "b")]
    assert {row["rank"] for row in rows_of(study_reports(folders)[-1]).values()} == {2.0}


def test_rows_that_some_sweeps_lack_are_left_out_and_named(tmp_path: Path) -> None:
    folders = [write_sweep(tmp_path, "a", STRENGTH), write_sweep(tmp_path, "b", {"average pooling": 1.0, "CSRA": 2.0})]
    overall = study_reports(folders)[-1]
    assert set(rows_of(overall)) == {"average pooling", "CSRA"}
    assert "rows that are not in all sweeps are omitted: GCN, Query2Label" in overall.footnotes
    with pytest.raises(UsageError, match="have no row in common"):
        study_reports([folders[0], write_sweep(tmp_path, "c", {"other": 1.0})])
    with pytest.raises(UsageError, match="listed twice"):
        study_reports([folders[0], folders[0]])
    with pytest.raises(UsageError, match="have no names"):
        study_reports([folders[0], write_sweep(tmp_path, "d", {"": 1.0})])


def test_costs_of_heads_are_columns_once_they_are_measured(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path, "one", STRENGTH)
    (table,) = study_reports([folder])
    assert rows_of(table)["CSRA"]["head_parameters"] == 400
    assert f"to measure the FLOPs and the step times of the heads, run mlrec bench head {folder}" in table.footnotes
    cost = HeadCost(
        head="CSRA", run="CSRA-0", parameters=400, flops=2_500_000, forward_ms=32.0, training_ms=1.0,
        forward_ratio=(1.25, 1.2, 1.3), training_ratio=None,
    )  # fmt: skip
    where = {"device": "cpu", "precision": "fp32", "threads": 1}
    HeadCosts(
        backbone="resnet101", img_size=64, num_labels=3, batch_size=16, steps=5, backbone_parameters=10,
        backbone_flops=7_000_000, environment=where, heads=[cost],
    ).save(folder)  # fmt: skip
    (table,) = study_reports([folder])
    row = rows_of(table)["CSRA"]
    assert (row["head_mflops"], row["ms_per_image"], row["time_ratio"]) == (2.5, 2.0, 1.25)
    assert rows_of(table)["GCN"]["head_mflops"] is None
    assert any("The backbone has 7 MFLOPs and 10 parameters" in note for note in table.footnotes)
