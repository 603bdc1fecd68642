"""The images of a report: the right ones, under the right label, each with the map of that label."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mlrec.datasets.dataset import Dataset
from mlrec.datasets.images.decode import decode
from mlrec.models.checkpoint import load_model
from mlrec.reports.render.html import PageGallery
from mlrec.run_folders.record import Run
from mlrec.training.transforms import normalize, tensors
from mlrec.workflows.report import galleries as workflow
from mlrec.workflows.report.galleries import galleries
from mlrec.workflows.report.page import report_page
from mlrec.workflows.report.report import report
from mlrec.workflows.train.train import train
from tests.conftest import Notes
from tests.tiny import FAST, LABELS, make_tiny


@pytest.fixture
def run(tmp_path: Path) -> Run:
    flags = {**FAST, "data": str(make_tiny(tmp_path)), "epochs": 1, "img_size": 64, "heads": 2, "lam": 0.5}
    return train(flags, out=tmp_path / "runs")


def says(run: Run, logits: np.ndarray) -> None:
    """Let the run have predicted something else."""
    replace(run.predictions(), logits=logits.astype(np.float32)).save(run.path / "predictions.npz")


def sure(run: Run) -> np.ndarray:
    """Logits that agree with the annotation."""
    targets = run.predictions().targets
    assert targets is not None
    return np.where(targets == 1, 5.0, -5.0)


def test_label_errors_are_listed_below_their_label(run: Run) -> None:
    logits = sure(run)
    logits[[2, 7], 2] *= -1
    logits[7, 2] *= 2
    logits[5, 0] *= -1
    says(run, logits)
    hard, errors = galleries(report([run.path]))
    ids = run.predictions().sample_ids
    assert [card.name for card in hard.sections[0].cards[:3]] == [ids[7], ids[2], ids[5]]
    assert [(section.title, [card.name for card in section.cards]) for section in errors.sections] == [
        (LABELS[0], [ids[5]]), (LABELS[2], [ids[7], ids[2]]),
    ]  # fmt: skip
    targets = run.predictions().targets
    assert targets is not None
    said = "yes, model: < 1%" if targets[2, 2] else "no, model: > 99%"
    assert errors.sections[1].cards[1].maps[0].caption == f"red · label: {said}"
    says(run, sure(run))
    assert len(galleries(report([run.path]))) == 1, "nothing is doubted"


def test_a_card_shows_the_map_of_its_label(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The maps that are drawn are the model's own contributions, computed here from the image."""
    logits = sure(run)
    logits[4, 1] *= -1
    says(run, logits)
    drawn: list[np.ndarray] = []
    monkeypatch.setattr(workflow, "overlaid", lambda pixels, values, _: (drawn.append(values), pixels)[1])
    _, errors = galleries(report([run.path]))
    assert [section.title for section in errors.sections] == [LABELS[1]]
    model, manifest = load_model(run.path), Dataset.load(run.record.scored.path).manifest("val")  # type: ignore[union-attr]
    view = tensors(decode(manifest.path_of(4)), None, 64, model.preprocessing.interpolation)
    with torch.inference_mode():
        features = model.backbone(normalize(view[None], model.preprocessing))
        expected = model.head.contributions(features)[0, 1].reshape(features.shape[-2:]).numpy()
    np.testing.assert_allclose(drawn[-1], expected, atol=1e-5)


def test_few_of_many_labels_are_shown(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    logits = -sure(run)
    logits[:, 1] *= 2
    says(run, logits)

    def shown() -> dict[str, int]:
        return {section.title: len(section.cards) for section in galleries(report([run.path]))[1].sections}

    assert shown() == dict.fromkeys(LABELS, 4)
    monkeypatch.setattr(workflow, "MOST", 6)
    assert shown() == dict.fromkeys(LABELS, 2)
    monkeypatch.setattr(workflow, "MOST", 2)
    assert shown() == {LABELS[0]: 1, LABELS[1]: 1}


def test_each_dataset_has_its_own_gallery(run: Run, tmp_path: Path) -> None:
    flags = {**FAST, "epochs": 1, "data": str(make_tiny(tmp_path / "second", "second"))}
    other = train(flags, out=tmp_path / "runs")
    for one in (run, other):
        says(one, sure(one))
    assert [gallery.title for gallery in galleries(report([tmp_path / "runs"]))] == [
        f"Hardest images of {run.path.name}, tiny val",
        f"Hardest images of {other.path.name}, second val",
    ]
    assert [gallery.title for gallery in galleries(report([run.path]))] == [f"Hardest images of {run.path.name}"]


def test_without_the_model_a_gallery_has_images_but_no_heat_maps(run: Run, notes: Notes) -> None:
    (run.path / "model.safetensors").unlink()
    says(run, -sure(run))

    hard, errors = galleries(report([run.path]))
    cards = [card for gallery in (hard, errors) for section in gallery.sections for card in section.cards]
    assert all(card.picture and card.lines and not card.maps for card in cards)
    assert hard.scale is None
    assert len(notes.warnings) == 1
    assert "not a model; pass a run folder" in notes.warnings[0]


def test_the_page_of_a_real_run_opens_in_a_browser(run: Run, tmp_path: Path, browse: Callable[[Path], str]) -> None:
    says(run, -sure(run))
    text = report_page(report([run.path]))
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    document = browse(tmp_path / "page.html")
    assert "\\x" not in document, "nothing of ours is escaped"
    assert document.count('alt="colors of the heat maps"') == 2
    photographs = document.split("enlarge photo")[1:]
    images = [re.search(r"data:image/jpeg;base64,([^\"]+)", part).group(1) for part in photographs]  # type: ignore[union-attr]
    shown: list[PageGallery] = galleries(report([run.path]))
    cards = [card for gallery in shown for section in gallery.sections for card in section.cards]
    assert len(images) == sum(1 + len(card.maps) for card in cards)
    assert Image.open(io.BytesIO(base64.b64decode(images[1]))).size == (256, 209)
