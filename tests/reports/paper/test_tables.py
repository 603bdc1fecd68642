"""The paper's tables: the printed numbers as they are, own runs beside them only where they may stand there."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from mlrec.lineage import Lineage
from mlrec.reports.paper import published
from mlrec.reports.paper.published import extra_rows, literature, paper_rows
from mlrec.reports.paper.tables import TABLES, belongs, paper_table
from mlrec.reports.render.formats import FORMATS
from mlrec.reports.render.table import Table
from mlrec.reports.results import result_of
from mlrec.reports.settings import recipe_values
from mlrec.run_folders.record import Run, SplitRecord
from mlrec.utils.errors import UsageError
from tests.reports.builders import write_run


def column(table: Table, key: str) -> int:
    return [c.key for c in table.columns].index(key)


def row(table: Table, method: str, **cells):
    found = [r for r in table.rows if r.cells[0] == method]
    found = [r for r in found if all(r.cells[column(table, key)] == value for key, value in cells.items())]
    assert len(found) == 1, (method, cells, found)
    return found[0]


def test_the_paper_has_eight_tables_of_as_many_rows_as_it_prints():
    assert {n: len(paper_rows(n)) for n in range(1, 9)} == {1: 48, 2: 12, 3: 9, 4: 12, 5: 9, 6: 3, 7: 10, 8: 4}


def test_printed_f1_follows_from_precision_and_recall_except_in_three_known_cells():
    odd = set()
    for line in paper_rows(4):
        for end, name in (("", ""), ("_3", " top-3")):
            for kind in "CO":
                p, r, f1 = (line.scores[f"{kind}{part}{end}"] for part in ("P", "R", "F1"))
                if f1 is not None and abs(2 * p * r / (p + r) - f1) > 0.0011:
                    odd.add((line.method, f"{kind}F1{name}"))
    assert odd == {("KSSNet", "CF1"), ("ASL", "OF1"), ("ViT-L16", "CF1 top-3")}
    assert all(line.note for line in paper_rows(4) if line.method in ("KSSNet", "ASL", "ViT-L16"))


@pytest.mark.parametrize(
    ("number", "method", "cells", "gain"),
    [
        (2, "ResNet-101 + CSRA", {"extra_data": None}, 1.8),
        (2, "ResNet-cut + CSRA", {"extra_data": None}, 1.3),
        (4, "ResNet-101 + CSRA", {}, 4.1),
        (4, "ViT-L/16 + CSRA", {}, 6.1),
        (5, "ViT-B/16 + CSRA", {}, 2.7),
        (6, "average + spatial", {}, 3.2),
        (7, "ViT-L/16 + CSRA", {"heads": 8}, 0.7),
        (8, "ResNet-101 + CSRA, unnormalised classifier", {"heads": 2}, -0.1),
    ],
)
def test_differences_to_the_matching_baseline(number, method, cells, gain):
    table = paper_table(number, [])
    found = row(table, method, **cells)
    assert 100 * found.cells[column(table, "difference")] == pytest.approx(gain)


def test_a_row_with_extra_data_has_no_baseline_without_extra_data():
    table = paper_table(2, [])
    assert row(table, "ResNet-101 + CSRA", extra_data="coco").cells[column(table, "difference")] is None


def test_other_resolutions_extra_data_and_conventions_have_own_groups():
    assert [line.scores["mAP"] for line in paper_rows(6)] == [0.821, 0.842, 0.853]
    groups = [title for title, _ in paper_table(2, []).groups()]
    assert len(groups) == 4
    assert any("larger input" in title for title in groups)
    (srn,) = [r for r in paper_table(5, []).rows if r.cells[0] == "SRN"]
    assert "not comparable: different conventions: envelope AP, mean of per-label F1" in srn.group


def test_inferred_cells_are_marked():
    table = paper_table(4, [])
    assert row(table, "ML-GCN").marks[column(table, "resolution")] == "‡"
    assert column(table, "resolution") not in row(table, "ResNet-cut").marks
    assert "‡ inferred value that is not printed in the paper" in table.footnotes


def full_voc(tmp_path: Path, name: str, samples: int = 4952, **options) -> Path:
    rng = np.random.default_rng(0)
    targets = (rng.random((samples, 20)) < 0.1).astype(np.int8)
    logits = rng.normal(size=targets.shape) + 3 * targets
    labels = tuple(f"label{k}" for k in range(20))
    return write_run(
        tmp_path, name, logits=logits, targets=targets, labels=labels, dataset="voc2007", kind="voc2007", **options
    )


def test_a_run_on_the_full_set_joins_the_published_rows_and_a_run_on_a_subset_does_not(tmp_path):
    runs = [
        full_voc(tmp_path, "base", config={"head": "average"}),
        full_voc(tmp_path, "full"),
        full_voc(tmp_path, "small", config={"img_size": 224}),
        full_voc(tmp_path, "coco", config={"init_from": "runs/coco"}),
        full_voc(tmp_path, "part", samples=545),
        write_run(tmp_path, "toy"),
    ]
    results = [result_of(Run.load(path), conventions="csra") for path in runs]
    table = paper_table(2, results)
    group = {r.cells[column(table, "run")]: r.group for r in table.rows if r.cells[column(table, "source")] == "own"}
    printed = "VOC2007 test, 4,952 samples, 20 labels, 448 px"
    assert group["full"] == printed
    assert group["base"] == printed
    assert group["small"] == printed + " · not comparable: 224 px"
    assert (
        group["coco"] == printed + " · not comparable: extra data unknown (coco), settings different from the paper's"
    )
    assert "not comparable with VOC2007 (545 of 4,952 samples in test" in group["part"]
    assert "not comparable with VOC2007 (different data" in group["toy"]
    own = next(r for r in table.rows if r.cells[column(table, "run")] == "full")
    assert own.cells[column(table, "difference")] == pytest.approx(results[1].values["mAP"] - results[0].values["mAP"])
    assert any("conventions csra:" in note for note in table.footnotes)


def own_rows(table: Table) -> dict[str, tuple]:
    """Method and difference of own rows by the name of their run."""
    keys = [column(table, key) for key in ("run", "method", "difference")]
    return {r.cells[keys[0]]: tuple(r.cells[k] for k in keys[1:]) for r in table.rows if "own" in r.cells}


def runs_with(tmp_path: Path, configs: dict[str, dict]) -> list:
    rng = np.random.default_rng(0)
    targets = (rng.random((40, 4)) < 0.4).astype(np.int8)
    return [
        result_of(Run.load(write_run(tmp_path, name, config=config, logits=rng.normal(size=(40, 4)), targets=targets)))
        for name, config in configs.items()
    ]


def test_controls_of_table_7_are_named_and_are_not_baselines(tmp_path):
    results = runs_with(
        tmp_path,
        {
            "one": {"heads": 1}, "four": {"heads": 4}, "equal": {"heads": 4, "temperatures": [1.0] * 4},
            "max": {"heads": 1, "temperatures": ["inf"]}, "scaled": {"heads": 1, "logit_scale": 4.0},
        },
    )  # fmt: skip
    rows = own_rows(paper_table(7, results))
    mAP = {result.run: result.values["mAP"] for result in results}
    assert rows["one"] == ("ResNet-101 + CSRA", None)
    assert {name: method.removeprefix("ResNet-101 + CSRA") for name, (method, _) in rows.items()} == {
        "one": "", "four": "", "equal": ", all T = 1", "max": ", T = ∞", "scaled": ", logits × 4",
    }  # fmt: skip
    for name in ("four", "equal", "max", "scaled"):
        assert rows[name][1] == pytest.approx(mAP[name] - mAP["one"]), name


def test_lambda_zero_is_the_average_pooling_of_table_6(tmp_path):
    three = {"zero": {"lam": 0.0}, "spatial": {"head": "spatial"}, "both": {"lam": 0.4}}
    results = runs_with(tmp_path, three)
    mAP = {result.run: result.values["mAP"] for result in results}
    rows = own_rows(paper_table(6, results))
    assert rows["zero"][1] is None
    assert rows["both"][1] == pytest.approx(mAP["both"] - mAP["zero"])
    assert rows["spatial"][1] == pytest.approx(mAP["spatial"] - mAP["zero"])
    base = runs_with(tmp_path / "more", {"base": {"head": "average"}})
    four = own_rows(paper_table(6, [*results, *base]))
    assert four["zero"][1] == pytest.approx(mAP["zero"] - base[0].values["mAP"])
    assert four["base"][1] is None
    assert four["both"][1] == pytest.approx(mAP["both"] - max(mAP["zero"], base[0].values["mAP"]))


def test_five_labels_of_a_full_set_are_not_the_full_set(tmp_path):
    result = result_of(Run.load(full_voc(tmp_path, "full")), conventions="csra", labels=["label1", "label2"])
    (own,) = [r for r in paper_table(2, [result]).rows if "own" in r.cells]
    assert "2 of 20 labels" in own.group


def test_which_runs_belong_in_which_table(tmp_path):
    def tables_of(name, **config):
        record = Run.load(write_run(tmp_path, name, kind=config.pop("kind", "coco"), config=config)).record
        return {n for n in TABLES if belongs(record, n, named=False)}

    assert tables_of("a", head="average") == {4, 6}
    assert tables_of("b", head="csra", heads=6) == {4, 7, 8}
    assert tables_of("c", head="csra", heads=1) == {4, 6, 7, 8}
    assert tables_of("d", head="csra", heads=6, kind="voc2007") == {2, 7, 8}
    assert tables_of("e", head="csra", heads=1, kind="voc2012") == {6, 7, 8}, "an own AP is no entry of Table 3"


def test_server_results_are_rows_in_percent(tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text("method,mAP,resolution,heads,lam\nmine,94.3,448,1,0.1\n")
    table = paper_table(3, [], extra_rows(file))
    mine = row(table, "mine")
    assert mine.cells[column(table, "mAP")] == pytest.approx(0.943)
    assert mine.cells[column(table, "source")] == "given"
    assert mine.group == row(table, "HCP").group


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("method,map\nmine,94\n", "no column 'mAP'"),
        ("method,mAP\nmine,0.943\n", "line 2: mAP = 0.943 is not between 1 and 100; enter mAP as a percentage"),
        ("method,mAP\nmine,high\n", "line 2: mAP = high is not a number"),
        ("method,mAP\n", "no rows"),
        ("method,mAP\nmine,nan\n", "as a percentage"),
    ],
)
def test_faulty_rows_are_refused(tmp_path, text, why):
    file = tmp_path / "rows.csv"
    file.write_text(text)
    with pytest.raises(UsageError, match=why):
        extra_rows(file)


def test_literature_has_a_source_in_every_row():
    tables = [literature(data) for data in ("coco2014", "voc2007", "voc2012", "wider")]
    rows = [row for table in tables for row in table.rows]
    assert len(rows) > 30
    assert all(row.cells[-1] and 0.5 < row.cells[4] < 1 for row in rows)
    protocols = [row.cells[5] for row in tables[0].rows if row.cells[0] == "CAP"]
    assert len(protocols) == 4
    assert all(protocol.startswith("labels missing: ") for protocol in protocols)
    with pytest.raises(UsageError, match="no literature results for 'mnist'; choose one of coco2014"):
        literature("mnist")


def test_the_shipped_numbers_are_those_of_the_reference(realdata):
    reference = realdata.parent / "reference" / "paper_results.csv"
    shipped = Path(published.__file__).parents[1] / "data" / "paper_results.csv"
    with reference.open(newline="") as ours, shipped.open(newline="") as theirs:
        assert list(csv.DictReader(ours)) == list(csv.DictReader(theirs))


VOC = "VOC2007 test, 4,952 samples, 20 labels, 448 px"
APART = VOC + " · not comparable: settings different from the paper's"


def own_by_run(table: Table) -> dict[str, dict]:
    keys = [c.key for c in table.columns]
    rows = [dict(zip(keys, r.cells, strict=True)) | {"group": r.group} for r in table.rows]
    return {row["run"]: row for row in rows if row["source"] == "own"}


def table_2(tmp_path: Path, runs: dict[str, dict]) -> Table:
    paths = [full_voc(tmp_path, name, **options) for name, options in runs.items()]
    return paper_table(2, [result_of(Run.load(path), conventions="csra") for path in paths])


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ({"config": {"loss": "asl", "asl_clip": 0.05, "gamma_neg": 4.0}}, "loss asl"),
        ({"config": {"ema": True, "ema_decay": 0.9997}}, "ema on"),
        ({"config": {"opt": "adamw", "epochs": 80, "lr": 1e-4}}, "epochs 80, lr 0.0001, opt adamw"),
        ({"config": {"scale": [0.3, 1.0]}}, "scale 0.3-1"),
        ({"config": {"randaugment": 2}}, "randaugment 2"),
        ({"model": {"weights": "resnet101.tv2_in1k"}}, "weights tv2_in1k"),
        ({"config": {"pretrained": False}}, "weights random"),
        ({"config": {"unknown": "ignore"}}, "unknown ignore"),
        ({"train": SplitRecord("voc2007", "voc2007", "train", 2501, "d")}, "trained on voc2007 train, 2,501 samples"),
    ],
)
def test_a_run_with_another_recipe_or_other_weights_has_an_own_group_and_lists_all_differences(
    tmp_path, options, settings
):
    table = table_2(tmp_path, {"paper": {}, "other": options})
    rows = own_by_run(table)
    assert (rows["paper"]["group"], rows["paper"]["settings"]) == (VOC, None)
    assert (rows["other"]["group"], rows["other"]["settings"]) == (APART, settings)
    assert any(note.startswith("Settings: all differences from the paper recipe") for note in table.footnotes)


def test_equivalent_recipes_join_the_published_rows_and_are_named(tmp_path):
    code = dict(recipe_values("paper-code", "voc2007", "csra")) | {"heads": 1}
    baseline = dict(recipe_values("paper-baseline", "voc2007", "average"))
    for_another_head = {key: baseline[key] for key in ("epochs", "lr_step_epochs", "head_lr_mult")}
    runs = {"code": code, "baseline": baseline, "misused": for_another_head}
    rows = own_by_run(table_2(tmp_path, {name: {"config": config} for name, config in runs.items()}))
    assert (rows["code"]["group"], rows["code"]["settings"]) == (VOC, "recipe paper-code")
    assert (rows["baseline"]["group"], rows["baseline"]["settings"]) == (VOC, "recipe paper-baseline")
    assert (rows["misused"]["group"], rows["misused"]["settings"]) == (
        APART,
        "epochs 40, head_lr_mult 1, lr_step_epochs 15",
    )


def test_settings_without_effect_are_not_differences(tmp_path):
    idle = {"gamma_neg": 2.0, "ema_decay": 0.9, "randaugment_magnitude": 15, "workers": 3, "tensorboard": True}
    assert own_by_run(table_2(tmp_path, {"idle": {"config": idle}}))["idle"]["group"] == VOC


def test_declared_cutmix_weights_join_the_published_rows_with_a_note_and_others_do_not(tmp_path):
    file = {"weights": "/home/me/secret/resnet101_cutmix.pth"}
    declared = Lineage(weights="resnet101_cutmix.pth", origin="declared", declared="cutmix_in1k")
    table = table_2(tmp_path, {"unknown": {"config": file}, "declared": {"config": file, "lineage": declared}})
    rows = own_by_run(table)
    assert {row["method"] for row in rows.values()} == {"ResNet-101 (CutMix) + CSRA"}
    assert rows["declared"]["group"] == VOC
    assert "extra data unknown (resnet101_cutmix.pth), settings different" in rows["unknown"]["group"]
    assert rows["unknown"]["settings"] == "weights resnet101_cutmix.pth (unknown origin)"
    assert any("origin as declared (cutmix_in1k), not verified" in note for note in table.footnotes)
    for draw in FORMATS.values():
        assert "secret" not in draw([table])


def test_a_declared_origin_that_is_other_data_is_extra_data(tmp_path):
    lineage = Lineage(weights="x.pth", origin="declared", declared="openimages")
    row = own_by_run(table_2(tmp_path, {"more": {"lineage": lineage}}))["more"]
    assert row["extra_data"] == "openimages"
    assert "extra data openimages" in row["group"]


def test_a_footnote_names_the_weights_that_replace_those_of_vit_l(tmp_path):
    model = {"weights": "vit_large_patch16_224.augreg_in21k_ft_in1k"}
    config = {"backbone": "vit_large_patch16_224"}
    table = table_2(tmp_path, {"large": {"model": model, "config": config}})
    assert own_by_run(table)["large"]["group"] == VOC
    assert any("AugReg weights (augreg_in21k_ft_in1k) replace" in note for note in table.footnotes)
    base = {"weights": "vit_base_patch16_224.augreg_in21k_ft_in1k"}
    other = table_2(tmp_path / "b", {"base": {"model": base, "config": {"backbone": "vit_base_patch16_224"}}})
    assert own_by_run(other)["base"]["settings"] == "weights augreg_in21k_ft_in1k"


def test_the_difference_is_between_rows_that_differ_in_the_method_only(tmp_path):
    long = {"epochs": 80}
    table = table_2(
        tmp_path,
        {
            "base": {"config": {"head": "average"}},
            "csra": {},
            "long csra": {"config": long},
            "ema base": {"config": {"head": "average", "epochs": 80, "ema": True}},
        },
    )
    rows = own_by_run(table)
    gain = rows["csra"]["mAP"] - rows["base"]["mAP"]
    assert rows["csra"]["difference"] == pytest.approx(gain)
    assert rows["long csra"]["difference"] is None
    assert (
        "no Δ for long csra: the closest run ema base differs in more than the method (ema, ema_decay)"
        in table.footnotes
    )
    assert any("includes the effect of the head learning rate" in note for note in table.footnotes)


@pytest.mark.parametrize(
    ("base", "why"),
    [
        ({"config": {"lr": 0.02}}, "lr"),
        ({"config": {"head_lr_mult": 5.0}}, "head_lr_mult"),
        ({"model": {"weights": "resnet101.a1h_in1k"}}, "weights"),
        ({"config": {"pretrained": False}}, "weights"),
        ({"train": SplitRecord("toy", "csv", "train", 90, "other")}, "train data"),
        ({"train": SplitRecord("toy", "csv", "trainval", 90, "other")}, "train_split"),
    ],
)
def test_no_difference_on_other_data_if_more_than_the_method_differs(tmp_path, base, why):
    base = base | {"config": {"head": "average"} | base.get("config", {})}
    paths = [write_run(tmp_path, "csra"), write_run(tmp_path, "base", **base)]
    table = paper_table(6, [result_of(Run.load(path)) for path in paths])
    rows = own_by_run(table)
    assert rows["csra"]["difference"] is None
    assert f"no Δ for csra: the closest run base differs in more than the method ({why})" in table.footnotes
    assert why in rows["csra"]["settings"]
    assert why in rows["base"]["settings"]


def test_one_head_learning_rate_for_both_heads_is_a_fair_difference(tmp_path):
    configs = {"csra": {}, "base": {"head": "average", "head_lr_mult": 10.0}}
    paths = [write_run(tmp_path, name, config=config) for name, config in configs.items()]
    table = paper_table(6, [result_of(Run.load(path)) for path in paths])
    assert own_by_run(table)["csra"]["difference"] is not None
    assert not any("includes the effect of the head learning rate" in note for note in table.footnotes)
