"""Table 1: the paper's rows as printed, and own sweeps of λ beside them where they may stand."""

from __future__ import annotations

import json

import pytest

from mlrec.errors import RunError
from mlrec.reports.results import result_of
from mlrec.reports.table1 import LamSweep, Own, sweeps_of, table_1
from mlrec.runs.record import Run
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


def test_own_sweeps_are_found_in_evaluations_and_stand_apart_on_other_data(tmp_path):
    path = write_run(tmp_path, "avg", config={"head": "average"})
    (path / "eval-toy-test").mkdir()
    (path / "eval-toy-test" / "lambda.json").write_text(json.dumps(SWEEP))
    (sweep,) = sweeps_of(path)
    (own,) = rows(table_1([Own(result_of(Run.load(path)), sweep)]), "own")
    assert own.cells[3:10] == (0.5, 0.1, 0.52, pytest.approx(0.02), 0.2, 0.51, pytest.approx(0.01))
    assert "not comparable with the paper's, other data" in own.group
    assert own.marks == {4: "†"}


def test_a_full_set_stands_with_the_paper_and_a_lambda_chosen_elsewhere_has_no_dagger(tmp_path):
    result = result_of(Run.load(write_run(tmp_path, "avg", labels=tuple("abcd"), kind="wider")))
    values = SWEEP | {"kind": "wider", "samples": 29179, "select_split": "val"}
    (own,) = rows(table_1([Own(result, LamSweep(**values))]), "own")
    assert "4 of 14 labels" in own.group
    assert own.marks == {}


def test_what_is_no_sweep_is_refused(tmp_path):
    (tmp_path / "lambda.json").write_text('{"lams": 1}')
    with pytest.raises(RunError, match="not what mlrec eval --lam writes"):
        sweeps_of(tmp_path)
