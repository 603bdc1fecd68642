"""Table 1: the paper's rows as printed, and own sweeps of λ beside them where they may stand."""

from __future__ import annotations

import json

import pytest

from mlrec.reports.paper.figure1 import lambda_table
from mlrec.reports.paper.table1 import Gain, LambdaSweep, MethodSweeps, sweeps_of, table_1
from mlrec.reports.results import result_of
from mlrec.run_folders.record import Run
from mlrec.utils.errors import RunError
from tests.reports.builders import write_run

SWEEP = {
    "conventions": "csra", "lams": [0.0, 0.1, 0.2], "mAP": [0.5, 0.52, 0.51], "fixed_lam": 0.2, "fixed": 0.51,
    "best_lam": 0.1, "best": 0.52, "dataset": "toy", "split": "test", "samples": 4,
}  # fmt: skip


def rows(table, source):
    return [row for row in table.rows if row.cells[1] == source]


def test_sixteen_models_and_the_differences_the_paper_prints():
    printed = rows(table_1([]), "paper")
    assert len(printed) == 16
    found = {
        (row.group.split()[0], row.cells[0]): [round(100 * row.cells[k], 1) for k in (3, 5, 6, 8, 9)] for row in printed
    }
    assert found["MS-COCO", "MobileNetV2"] == [71.8, 73.0, 1.2, 73.0, 1.2]
    assert found["MS-COCO", "ViT-B/16"] == [79.0, 79.7, 0.7, 79.3, 0.3]
    assert found["WIDER-Attribute", "MobileNetV2"] == [72.1, 72.3, 0.2, 72.2, 0.1]
    assert found["ImageNet", "ResNet-50"] == [75.6, 75.7, 0.1, 75.7, 0.1]
    assert all(row.marks[4] == "†" for row in printed), "the paper chose its best λ on the test set"


def test_own_sweeps_are_read_from_evaluations_and_have_own_groups_on_other_data(tmp_path):
    path = write_run(tmp_path, "avg", config={"head": "average"})
    (path / "eval-toy-test").mkdir()
    (path / "eval-toy-test" / "lambda.json").write_text(json.dumps(SWEEP))
    sweeps = sweeps_of(path)
    assert list(sweeps) == [path / "eval-toy-test"]
    (own,) = rows(table_1([MethodSweeps(result_of(Run.load(path)), tuple(sweeps.values()), None)]), "own")
    assert own.cells[3:10] == (0.5, 0.1, 0.52, pytest.approx(0.02), 0.2, 0.51, pytest.approx(0.01))
    assert "not comparable with the paper (different data" in own.group
    assert own.marks == {4: "†"}


LABELS = [f"a{k}" for k in range(14)]
FULL = SWEEP | {"kind": "wider", "samples": 29179, "labels": LABELS}


@pytest.mark.parametrize(
    ("change", "config", "why"),
    [
        ({}, {}, None),
        ({"labels": LABELS[:5]}, {}, "5 of 14 labels"),
        ({"samples": 500}, {}, "500 of 29,179 samples in test"),
        ({"conventions": "voc2007-11pt"}, {}, "conventions voc2007-11pt"),
        ({}, {"img_size": 448}, "448 px"),
        ({}, {"init_from": "runs/coco"}, "extra data unknown (coco)"),
    ],
)
def test_only_the_full_test_set_at_its_resolution_is_comparable_with_the_paper(tmp_path, change, config, why):
    settings = {"head": "average", "img_size": 224} | config
    result = result_of(Run.load(write_run(tmp_path, "avg", kind="wider", config=settings)))
    own, *others = [
        r for r in table_1([MethodSweeps(result, (LambdaSweep(**(FULL | change)),), None)]).rows if "own" in r.cells
    ]
    assert not others
    if why is None:
        assert own.group == "WIDER-Attribute test, 29,179 samples, 14 labels"
    else:
        assert own.group.endswith(f"not comparable with the paper ({why})")


def test_a_lambda_chosen_on_another_split_has_no_dagger_and_seeds_are_averaged(tmp_path):
    result = result_of(Run.load(write_run(tmp_path, "avg", config={"head": "average"})))
    first = LambdaSweep(**SWEEP, select_split="val")
    second = LambdaSweep(
        **(SWEEP | {"mAP": [0.6, 0.6, 0.7], "fixed": 0.7, "best": 0.7, "best_lam": 0.2}), select_split="val"
    )
    table = table_1([MethodSweeps(result, (first, second), Gain(0.05, -0.01, 0.11))])
    (own,) = rows(table, "own")
    cells = dict(zip([column.key for column in table.columns], own.cells, strict=True))
    assert own.marks == {}
    assert cells["best_lam"] == "0.1 to 0.2"
    assert [cells[key] for key in ("baseline", "best", "fixed", "fixed_difference")] == pytest.approx(
        [0.55, 0.61, 0.605, 0.055]
    )
    assert (cells["fixed_low"], cells["fixed_high"], cells["seeds"]) == (-0.01, 0.11, 2)


def test_a_file_that_is_not_a_sweep_is_refused(tmp_path):
    (tmp_path / "lambda.json").write_text('{"lams": 1}')
    with pytest.raises(RunError, match="not a file written by mlrec lambda-sweep"):
        sweeps_of(tmp_path)


@pytest.mark.parametrize(("head", "name"), [("average", "average pooling"), ("gcn", "as trained")])
def test_the_row_without_lambda_names_the_pooling_of_the_model(head, name):
    scores = {form: {"mAP": 0.5, "CF1": 0.4, "OF1": 0.3} for form in ("raw", "divided")}
    sweep = LambdaSweep(**SWEEP, head=head, metrics=dict.fromkeys(("zero", "fixed", "best"), scores))
    assert lambda_table(sweep, "t").rows[0].cells[0] == name
