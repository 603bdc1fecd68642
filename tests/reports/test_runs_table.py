"""Runs become rows: names, seeds, groups that must not be compared, notes."""

from __future__ import annotations

import statistics

import numpy as np
import pytest

from mlrec.lineage import Lineage
from mlrec.reports.render.formats import FORMATS
from mlrec.reports.render.table import Table
from mlrec.reports.results import over_seeds, rescored, result_of
from mlrec.reports.runs_table import runs_table
from mlrec.run_folders.record import Run, SplitRecord
from mlrec.utils.errors import PredictionsError
from tests.reports.builders import LABELS, SCORES, TARGETS, logits_of, write_run

LOGITS = logits_of(SCORES)


def cells(table: Table, key: str) -> list[object]:
    position = [column.key for column in table.columns].index(key)
    return [row.cells[position] for row in table.rows]


def results(*paths, **options):
    return [result_of(Run.load(path), **options) for path in paths]


def test_a_run_is_a_row_with_its_stored_numbers(tmp_path):
    (result,) = results(write_run(tmp_path, "one", config={"heads": 6, "lam": 0.5}))
    table = runs_table([result])
    assert cells(table, "method") == ["ResNet-101 + CSRA"]
    assert (cells(table, "heads"), cells(table, "lam"), cells(table, "resolution")) == ([6], [0.5], [448])
    assert cells(table, "CP") == [pytest.approx(0.41667, abs=1e-5)]
    assert cells(table, "CR") == [pytest.approx(0.83333, abs=1e-5)]
    assert cells(table, "OF1_3") == [pytest.approx(0.58824, abs=1e-5)]
    assert table.rows[0].group == "toy test · 4 samples · 4 labels · conventions mlrec · 448 px"
    assert not table.rows[0].best, "one row alone is not the best of anything"


@pytest.mark.parametrize(
    ("config", "method"),
    [
        ({"head": "average"}, "ResNet-101"),
        ({"head": "csra", "normalize": False}, "ResNet-101 + CSRA, unnormalised classifier"),
        ({"head": "spatial"}, "ResNet-101 + CSRA, spatial only"),
        (
            {"backbone": "resnet101.tv_in1k", "weights": "x/resnet101_cutmix_pretrained.pth"},
            "ResNet-101 (CutMix) + CSRA",
        ),
        ({"backbone": "vit_large_patch16_224.augreg_in21k_ft_in1k"}, "ViT-L/16 + CSRA"),
        ({"backbone": "hiera_tiny_224.mae"}, "hiera_tiny_224 + CSRA"),
    ],
)
def test_methods_have_the_papers_names(tmp_path, config, method):
    (result,) = results(write_run(tmp_path, "one", config=config))
    assert result.method == method


def test_average_pooling_has_no_heads_and_no_lambda(tmp_path):
    (result,) = results(write_run(tmp_path, "one", config={"head": "average"}))
    assert (result.heads, result.lam) == (None, None)


def test_runs_that_differ_in_the_seed_only_become_one_row_of_means(tmp_path):
    noise = np.random.default_rng(0).normal(size=(3, *LOGITS.shape))
    paths = [write_run(tmp_path, f"s{k}", config={"seed": k}, logits=LOGITS + noise[k]) for k in range(3)]
    other = write_run(tmp_path, "lr", config={"seed": 0, "lr": 0.3})
    singles = results(*paths)
    merged = over_seeds([*singles, *results(other)])
    assert [result.names for result in merged] == [("s0", "s1", "s2"), ("lr",)]
    scores = [result.values["mAP"] for result in singles]
    assert merged[0].values["mAP"] == pytest.approx(statistics.mean(scores))
    assert merged[0].spread == pytest.approx(statistics.stdev(scores))
    table = runs_table(merged)
    assert sorted(str(n) for n in cells(table, "seeds")) == ["3", "None"]
    assert sorted(str(s) for s in cells(table, "settings")) == ["lr 0.01", "lr 0.3"]
    assert any(note.startswith("n: number of runs that differ only in the seed") for note in table.footnotes)


def test_results_that_are_not_comparable_have_own_groups_with_a_reason(tmp_path):
    paths = [
        write_run(tmp_path, "a"),
        write_run(tmp_path, "b", logits=-LOGITS),
        write_run(tmp_path, "small", config={"img_size": 224}),
        write_run(tmp_path, "csra", conventions="csra"),
        write_run(tmp_path, "part", logits=LOGITS[:3], targets=np.array(TARGETS)[:3]),
        write_run(tmp_path, "digest", digest="another"),
        write_run(tmp_path, "coco", config={"init_from": "runs/coco-1"}),
        write_run(tmp_path, "elsewhere", dataset="other"),
    ]
    table = runs_table(results(*paths))
    groups = {title: len(rows) for title, rows in table.groups()}
    assert sorted(groups.values()) == [1, 1, 1, 1, 1, 1, 2]
    (why,) = [note for note in table.footnotes if "not comparable" in note]
    assert why == (
        "toy test: groups differ in sample count, annotations, conventions, resolution, extra data and are not "
        "comparable"
    )
    assert any("224 px" in title for title in groups)
    assert any("extra data unknown (coco-1)" in title for title in groups)


def test_a_best_epoch_chosen_on_the_scored_split_has_a_dagger(tmp_path):
    chosen = write_run(tmp_path, "chosen", best={"epoch": 3, "split": "test", "mAP": 0.9})
    held_out = write_run(tmp_path, "held", best={"epoch": 3, "split": "val", "mAP": 0.95}, config={"lam": 1.0})
    table = runs_table(results(chosen, held_out))
    assert cells(table, "best_epoch") == [0.9, None]
    assert [list(row.marks.values()) for row in table.rows] == [["†"], []]
    assert any(note.startswith("† the epoch was chosen on the scored split") for note in table.footnotes)


def test_notes_are_footnotes_without_duplicates(tmp_path):
    paths = [
        write_run(tmp_path, name, notes=["frozen, no augmentation"], config={"lam": lam})
        for name, lam in (("a", 1), ("b", 2))
    ]
    table = runs_table(results(*paths))
    assert [row.marks[0] for row in table.rows] == ["a", "a"]
    assert table.footnotes[0] == "a frozen, no augmentation"


def test_stored_predictions_are_scored_again_in_other_conventions_and_for_some_labels(tmp_path):
    path = write_run(
        tmp_path, "one", logits=np.where(np.arange(4) == 3, -9.0, LOGITS), best={"split": "test", "mAP": 0.9}
    )
    (own,), (csra,) = results(path), results(path, conventions="csra")
    assert csra.conventions == "csra"
    assert csra.best_epoch is None
    assert csra.values["OP"] < own.values["OP"], "one phantom prediction for the label never predicted"
    (two,) = results(path, labels=["bus", "dog"])
    assert two.labels == ("bus", "dog")
    assert two.average_precision == {name: own.average_precision[name] for name in ("bus", "dog")}
    assert rescored(Run.load(path), "mlrec").average_precision == own.average_precision
    with pytest.raises(PredictionsError, match="no label 'dgo'; did you mean 'dog'"):
        results(path, labels=["dgo"])
    assert own.labels == LABELS


def test_a_second_run_with_the_same_seed_is_not_another_seed(tmp_path):
    seeds = {"a": 0, "b": 1, "again": 0}
    paths = [write_run(tmp_path, name, config={"seed": seed}) for name, seed in seeds.items()]
    assert [row.names for row in over_seeds(results(*paths))] == [("a", "b"), ("again",)]


def test_settings_that_differ_between_methods_are_shown(tmp_path):
    base = write_run(tmp_path, "base", config={"head": "average", "epochs": 40, "lr": 0.02})
    csra = write_run(tmp_path, "csra")
    random = write_run(tmp_path, "random", config={"pretrained": False})
    table = runs_table(results(base, csra, random))
    shown = dict(zip(cells(table, "run"), cells(table, "settings"), strict=True))
    assert shown == {
        "base": "epochs 40, head_lr_mult 1, lr 0.02, weights tv_in1k",
        "csra": "epochs 30, head_lr_mult 10, lr 0.01, weights tv_in1k",
        "random": "epochs 30, head_lr_mult 10, lr 0.01, weights random",
    }


def test_a_weights_file_is_named_without_its_folder(tmp_path):
    files = [write_run(tmp_path, name, config={"weights": f"/home/me/{name}.pth"}) for name in "ab"]
    table = runs_table(results(*files))
    assert sorted(cells(table, "extra_data")) == ["unknown (a.pth)", "unknown (b.pth)"]
    assert "/home/me" not in FORMATS["json"]([table])


def test_settings_of_a_model_trained_elsewhere_are_unknown(tmp_path):
    lineage = Lineage(weights="voc.pth", origin="unknown")
    theirs = write_run(tmp_path, "theirs", train=None, lineage=lineage)
    table = runs_table(results(theirs, write_run(tmp_path, "ours")))
    shown = dict(zip(cells(table, "run"), cells(table, "settings"), strict=True))
    assert shown == {"theirs": "training unknown, weights voc.pth (unknown origin)", "ours": None}


def test_runs_with_other_weights_or_training_data_are_not_averaged(tmp_path):
    rows = results(
        write_run(tmp_path, "a", config={"seed": 0}),
        write_run(tmp_path, "b", config={"seed": 1}, model={"weights": "resnet101.a1h_in1k"}),
        write_run(tmp_path, "c", config={"seed": 2}, train=SplitRecord("toy", "csv", "train", 9, "other")),
    )
    assert [row.names for row in over_seeds(rows)] == [("a",), ("b",), ("c",)]
