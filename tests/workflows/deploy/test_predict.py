"""Prediction: the same scores as evaluation, in order, with bad images told and never replaced."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.metrics import average_precision_score
from typer.testing import CliRunner

import mlrec
from mlrec.cli.app import app
from mlrec.datasets.dataset import Dataset
from mlrec.datasets.listing import Item
from mlrec.metrics.scores import read_scores
from mlrec.models.preprocessing import Preprocessing
from mlrec.predictions import probabilities_of
from mlrec.run_folders.record import Run
from mlrec.utils.errors import DataError, MlrecError, UsageError, ValidationReport
from mlrec.workflows.deploy.predict import Prediction, Scorer, predict
from mlrec.workflows.deploy.predict_rows import ROW_FORMATS, csv_header
from mlrec.workflows.evaluate.evaluate import evaluate_run
from mlrec.workflows.runtime import RuntimeOptions
from mlrec.workflows.train.train import train
from tests.tiny import FAST, LABELS, make_tiny

HERE = RuntimeOptions(batch_size=4, workers=2, device="cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("predict"))


@pytest.fixture(scope="module")
def run(data: Path) -> Run:
    return train({**FAST, "data": str(data), "epochs": 1}, out=data.parents[1] / "runs")


def constant(logits: list[float]) -> Scorer:
    """A scorer that needs no model: what an exported bundle is to this workflow."""
    return Scorer(("a", "b", "c"), Preprocessing(8), lambda images: np.tile(np.array(logits), (len(images), 1)))


def test_scores_are_those_of_the_evaluation(run: Run, data: Path) -> None:
    known = run.predictions()
    found = list(predict(run.path, data / "val.jsonl", machine=HERE))
    assert [one.id for one in found] == list(known.sample_ids)
    expected = torch.sigmoid(torch.from_numpy(known.logits).double()).numpy()
    np.testing.assert_allclose([one.probabilities for one in found], expected, atol=1e-6)
    for one, row in zip(found, expected, strict=True):
        assert set(one.predicted) == {label for label, p in zip(LABELS, row, strict=True) if p >= 0.5}
        assert one.scores == pytest.approx(dict(zip(LABELS, row, strict=True)), abs=1e-6)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_equal_images_in_equal_batches_have_equal_scores_to_the_bit(run: Run, data: Path, precision: str) -> None:
    how = replace(HERE, precision=precision)
    known = evaluate_run(run.path, data=data, machine=how).predictions
    assert np.array_equal(known.logits, run.predictions().logits) == (precision == "fp32")
    found = [one.probabilities for one in predict(run.path, data / "val.jsonl", machine=how)]
    np.testing.assert_array_equal(found, probabilities_of(known.logits.astype(np.float64)))


def test_a_model_of_the_users_own_stays_on_its_device(run: Run, data: Path) -> None:
    model = mlrec.load_model(run.path).to("meta")
    with pytest.raises(UsageError, match="device 'meta' is not supported"):
        next(predict(model, data / "val.jsonl"))


def test_public_names_work_together(run: Run, data: Path) -> None:
    pictures = data.parents[1] / "pictures"
    found = list(mlrec.predict(mlrec.load_model(run.path), pictures))
    assert [one.item.path.name for one in found] == sorted(path.name for path in pictures.iterdir())


def test_a_box_is_predicted_like_a_cropped_image(run: Run, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "whole.png")
    Image.fromarray(pixels[10:50, 5:35]).save(tmp_path / "cut.png")
    box = Item("box", tmp_path / "whole.png", (5, 10, 30, 40))
    in_place, cut = predict(run.path, [box, tmp_path / "cut.png"], machine=HERE)
    np.testing.assert_allclose(in_place.probabilities, cut.probabilities, atol=1e-6)


def test_a_box_is_cut_at_the_border_and_one_outside_is_a_bad_image(run: Run, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "whole.png")
    out, within, far = (
        Item("box", tmp_path / "whole.png", b) for b in ((50, -20, 90, 60), (50, 0, 30, 40), (90, 0, 9, 9))
    )
    told: list[str] = []
    found = list(predict(run.path, [out, far, within], machine=HERE, on_error=lambda _, error: told.append(str(error))))
    np.testing.assert_array_equal(found[0].probabilities, found[1].probabilities)
    assert len(found) == 2
    assert "contains no pixels of the image (80 x 60)" in told[0]


def test_an_unreadable_image_is_reported_and_skipped_and_the_others_keep_their_order(
    data: Path, tmp_path: Path
) -> None:
    good = sorted((data.parents[1] / "pictures").iterdir())
    (tmp_path / "broken.png").write_bytes(good[0].read_bytes()[:60])
    (tmp_path / "empty.jpg").touch()
    paths = [good[0], tmp_path / "broken.png", *good[1:9], tmp_path / "empty.jpg", good[9]]
    told: list[tuple[str, str]] = []
    found = list(
        predict(
            constant([1, 0, -1]), paths, machine=HERE, on_error=lambda item, e: told.append((item.path.name, str(e)))
        )
    )
    assert [one.item.path for one in found] == good[:10]
    assert [name for name, _ in told] == ["broken.png", "empty.jpg"]
    assert "0 bytes" in told[1][1]
    with pytest.raises(DataError, match=r"broken\.png"):
        list(predict(constant([1, 0, -1]), paths, machine=HERE))


def test_images_are_read_as_they_are_needed(data: Path) -> None:
    picture = next((data.parents[1] / "pictures").iterdir())
    taken = 0

    def endless() -> object:
        nonlocal taken
        while True:
            taken += 1
            yield Item(str(taken), picture)

    stream = predict(constant([0, 0, 0]), endless(), machine=HERE)  # type: ignore[arg-type]
    assert [next(stream).id for _ in range(20)] == [str(k) for k in range(1, 21)]
    assert taken < 20 + 4 * 8
    stream.close()  # type: ignore[attr-defined]


def said(logits: list[float], picture: Path, **options: object) -> Prediction:
    return next(predict(constant(logits), picture, machine=HERE, **options))  # type: ignore[arg-type]


def test_thresholds_and_top(data: Path) -> None:
    picture = next((data.parents[1] / "pictures").iterdir())
    assert said([0, 2, -1], picture).predicted == ("b", "a")
    assert said([0, 2, -1], picture, threshold=np.array([0.6, 0.99, 0.2])).predicted == ("c",)
    assert said([-9, -8, -9], picture, top=2).predicted == ("b", "a")
    assert said([-9, -8, -9], picture, top=5).predicted == ("b", "a", "c")
    assert said([1000, -1000, 0], picture).probabilities.tolist() == [1.0, 0.0, 0.5]
    with pytest.raises(MlrecError, match="NaN or infinite"):
        said([np.nan, 0, 0], picture)


def test_the_command(run: Run, data: Path, tmp_path: Path) -> None:
    pictures = data.parents[1] / "pictures"
    common = ["predict", "--run", str(run.path), "--workers", "0", "--device", "cpu"]
    result = CliRunner().invoke(app, [*common, str(pictures / "val*.png"), "--save-images", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert len(rows) == 9
    assert list(rows[0]) == ["id", "labels", *LABELS]
    np.testing.assert_allclose(
        [[float(row[label]) for label in LABELS] for row in rows],
        1 / (1 + np.exp(-run.predictions().logits.astype(float))),
        rtol=1e-4,
    )
    assert len(list((tmp_path / "out").glob("*.jpg"))) == 9
    lines = CliRunner().invoke(app, [*common, str(pictures / "val00.png"), "--format", "jsonl", "--top", "2"]).stdout
    one = json.loads(lines)
    assert len(one["labels"]) == 2
    assert list(one["scores"]) == list(LABELS)


def test_the_command_fails_if_an_image_is_unreadable(run: Run, data: Path, tmp_path: Path) -> None:
    good = Dataset.load(data).manifest("val").path_of(0)
    bad = tmp_path / "bad.jpg"
    bad.write_text("no image")
    result = CliRunner().invoke(app, ["predict", str(bad), str(good), "--run", str(run.path), "--workers", "0"])
    assert isinstance(result.exception, DataError)
    assert "1 image could not be read" in str(result.exception)
    assert len(result.stdout.splitlines()) == 2
    assert "bad.jpg" in result.stderr
    neither = CliRunner().invoke(app, ["predict", "--run", str(run.path)])
    assert isinstance(neither.exception, MlrecError)


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_the_output_of_predict_can_be_scored(form: str, run: Run, data: Path, tmp_path: Path) -> None:
    """End to end, ids being paths: the metrics are those of the run, and scikit-learn's of the printed numbers."""
    pictures, manifest = data.parents[1] / "pictures", Dataset.load(data).manifest("val")
    printed = CliRunner().invoke(
        app,
        ["predict", str(pictures / "val*.png"), "--run", str(run.path), "--device", "cpu", "--format", form],
    )
    (tmp_path / f"p.{form}").write_text(printed.stdout)
    rows = [[Path(name).name, *map(int, row)] for name, row in zip(manifest.images, manifest.targets, strict=True)]
    truth = tmp_path / "truth.csv"
    truth.write_text("\n".join(",".join(map(str, row)) for row in [["filename", *LABELS], *rows[::-1]]) + "\n")
    if form == "csv":
        table = pd.read_csv(io.StringIO(printed.stdout), index_col="id")[list(LABELS)]
        known, scores = manifest.targets >= 0, table.to_numpy()
        each = [average_precision_score(manifest.targets[k, c], scores[k, c]) for c, k in enumerate(known.T)]
        expected = np.mean(each)
    else:
        expected = run.metrics().mAP
    for given in ([str(truth)], [str(data), "--split", "val"]):
        result = CliRunner().invoke(app, ["score", str(tmp_path / f"p.{form}"), *given, "--json"])
        assert result.exit_code == 0, result.output
        scored = json.loads(result.stdout)
        assert scored["mAP"] == pytest.approx(expected)
        assert scored["mAP"] == pytest.approx(run.metrics().mAP)
        assert scored["OF1"] == pytest.approx(run.metrics().OF1)
        assert scored["conventions"]["scores"] == "probabilities"


@pytest.mark.parametrize("form", list(ROW_FORMATS))
def test_output_lines_keep_all_digits(form: str, tmp_path: Path) -> None:
    """Six digits would make one of both probabilities, and a tie of their ranks."""
    high, low = 1 - 1e-9, 1 - 2e-9
    lines = [*([csv_header(["cat"])] if form == "csv" else []), ROW_FORMATS[form]("1", [], {"cat": high})]
    (tmp_path / f"p.{form}").write_text("\n".join([*lines, ROW_FORMATS[form]("2", ["cat"], {"cat": low})]) + "\n")
    assert read_scores(tmp_path / f"p.{form}", ValidationReport()).values.tolist() == [[high], [low]]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "empty"),
        ("{", "line 1: not valid JSON"),
        ("[1]", "line 1: expected"),
        ('{"id": "1", "scores": {}}', "line 1: expected"),
        ('{"id": "1", "scores": {"cat": true}}', "line 1: the score of 'cat' is not a number"),
        ('{"id": "1", "scores": {"cat": 0, "cat": 1}}', "line 1: key 'cat' occurs twice"),
        ('{"id": "1", "scores": {"cat": 0}}\n{"id": "2", "scores": {"dog": 1}}', "line 2: the labels differ"),
        ('{"id": "1", "scores": {"cat": 0}}\n{"id": "1", "scores": {"cat": 1}}', "'1' is scored twice"),
        ('{"id": "1", "scores": {"cat": 55}}', "55 is not a probability"),
    ],
)
def test_damaged_lines_are_errors(text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text(text)
    with pytest.raises(MlrecError) as caught:
        read_scores(tmp_path / "p.jsonl", ValidationReport())
    assert told in str(caught.value)
