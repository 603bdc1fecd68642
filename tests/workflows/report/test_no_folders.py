"""The folder of a weights file is of one machine: no table, page or model card shows it."""

from __future__ import annotations

from pathlib import Path

from mlrec.lineage import Lineage
from mlrec.reports.model_card import Card, model_card
from mlrec.reports.render.formats import FORMATS
from mlrec.reports.results import result_of
from mlrec.run_folders.record import Run, RunRecord
from mlrec.sweeps.study_tables import SettingResult, TrialResult, study_table
from mlrec.workflows.report.page import report_page
from mlrec.workflows.report.report import report
from tests.reports.builders import LABELS, TARGETS, logits_of, write_run

FILE = "/home/me/weights/own.pth"
SCORES = [[0.9, 0.6, 0.2, 0.1], [0.5, 0.7, 0.8, 0.3], [0.5, 0.2, 0.9, 0.6], [0.1, 0.55, 0.7, 0.65]]


def write(root: Path, name: str = "own") -> Path:
    """A run that was started from `FILE`, as typed with and without `=`."""
    command = ["mlrec", "train", "--weights", FILE, f"--set=weights={FILE}", "--data", "/home/me/data"]
    return write_run(root, name, config={"weights": FILE}, model={"weights": FILE}, command=command)


def test_the_page_names_the_file_without_its_folder(tmp_path: Path) -> None:
    write(tmp_path / "runs")
    text = report_page(report(root=tmp_path / "runs"))
    assert "/home/me/weights" not in text
    assert "mlrec train --weights own.pth --set=weights=own.pth --data /home/me/data" in text


def test_a_table_of_a_sweep_names_the_file_without_its_folder(tmp_path: Path) -> None:
    logits, targets = logits_of(SCORES), TARGETS
    results = []
    for name, weights in (("a", FILE), ("b", None)):
        run = result_of(Run.load(write(tmp_path, name)))
        trial = TrialResult(run, logits, targets, tuple(f"{k}.jpg" for k in range(4)))  # type: ignore[arg-type]
        results.append(SettingResult(name, {"weights": weights}, [trial]))
    for text in (FORMATS[form]([study_table("Sweep", results)]) for form in ("json", "csv", "md", "latex", "table")):
        assert "own.pth" in text
        assert "/home/me" not in text


def test_a_model_card_names_the_file_without_its_folder(tmp_path: Path) -> None:
    for lineage in (None, Lineage(weights="own.pth", origin="declared", declared="in1k")):
        path = write(tmp_path / str(lineage is None))
        record = RunRecord.load(path)
        if lineage is not None:
            record = RunRecord(**{f: getattr(record, f) for f in record.__struct_fields__} | {"lineage": lineage})
        card = Card(
            form="onnx",
            file="model.onnx",
            labels=LABELS,
            preprocessing={"size": 64, "interpolation": "bilinear", "mean": [0.5] * 3, "std": [0.5] * 3},
            architecture={"backbone": "resnet101.tv_in1k", "head": "csra", "heads": 1, "lam": 0.1},
            check="equal",
            record=record,
        )
        assert "/home/me" not in model_card(card)
