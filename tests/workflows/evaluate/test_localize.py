"""Localisation of a real model on scenes whose masks are known, through files and back."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image

from mlrec.datasets.images.decode import decode
from mlrec.datasets.listing import items_of
from mlrec.datasets.objects import Objects, load_objects
from mlrec.datasets.readers.shapes import draw_shapes
from mlrec.models.checkpoint import load_model
from mlrec.models.csra import CSRA
from mlrec.training import prediction
from mlrec.training.prediction import InferenceModel
from mlrec.training.transforms import normalize, tensors
from mlrec.utils.errors import DataError
from mlrec.workflows.data.prepare import prepare
from mlrec.workflows.deploy.predict import predict
from mlrec.workflows.evaluate.attend import compute_maps
from mlrec.workflows.evaluate.evaluate import Evaluation, evaluate_run
from mlrec.workflows.evaluate.localize import Localization, _masks, localize
from mlrec.workflows.runtime import RuntimeOptions
from mlrec.workflows.train.train import train
from tests.tiny import FAST, make_tiny

HERE = RuntimeOptions(workers=0, device="cpu")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    root = tmp_path_factory.mktemp("localize")
    draw_shapes(root / "scenes", images={"train": 6, "val": 7})
    data = prepare("shapes", root / "scenes", out=root / "data")
    flags = {**FAST, "data": str(data.path), "epochs": 1, "img_size": 128, "heads": 2, "lam": 0.5}
    run = train(flags, out=root / "runs")
    return evaluate_run(run.path, machine=HERE)


@pytest.fixture(scope="module")
def result(found: Evaluation) -> Localization:
    return localize(found, machine=HERE)


def test_each_shown_label_is_a_pair_judged_as_by_hand(found: Evaluation, result: Localization) -> None:
    manifest, objects = found.dataset.manifest("val"), load_objects(found.dataset, "val")
    assert {(p.sample, p.label) for p in result.pairs} == set(zip(*np.nonzero(manifest.targets == 1), strict=True))
    model = load_model(found.model)
    assert isinstance(model.head, CSRA)
    pair = result.pairs[0]
    pixels = decode(manifest.path_of(pair.sample))
    view = tensors(pixels, None, model.preprocessing.size, model.preprocessing.interpolation)
    with torch.inference_mode():
        features = model.backbone(normalize(view[None], model.preprocessing))
        rows, columns = features.shape[-2:]
        own = model.head.contributions(features)[0, pair.label]
    mask = np.zeros(pixels.shape[:2], dtype=bool)
    for k in np.flatnonzero(objects[pair.sample].labels == pair.label):
        mask |= objects[pair.sample].mask(int(k))
    i, j = divmod(int(own.argmax()), columns)
    height, width = mask.shape
    cell = mask[
        int(np.ceil(i * height / rows - 0.5)) : int(np.floor((i + 1) * height / rows - 0.5)) + 1,
        int(np.ceil(j * width / columns - 0.5)) : int(np.floor((j + 1) * width / columns - 0.5)) + 1,
    ]
    assert pair.hit == float(cell.any())
    assert pair.covered == pytest.approx(mask.mean(), abs=0.02)


def test_all_commands_run_the_same_batches_through_the_same_prepared_model(
    found: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images, batch shapes, device, precision and memory layout: what the bits of scores depend on."""
    calls: list[tuple[object, ...]] = []
    run, prepare_device = InferenceModel.run, prediction.prepare_device

    def recorded(model: InferenceModel, images: torch.Tensor, read: Callable[[torch.Tensor], object]) -> object:
        layouts = {p.is_contiguous(memory_format=torch.channels_last) for p in model.model.parameters() if p.ndim == 4}
        calls.append((tuple(images.shape), images.tolist(), model.device, model.precision, layouts))
        return run(model, images, read)

    def prepared(*how: object) -> None:
        calls.append(how)
        prepare_device(*how)  # type: ignore[arg-type]

    monkeypatch.setattr(InferenceModel, "run", recorded)
    monkeypatch.setattr(prediction, "prepare_device", prepared)
    manifest = found.dataset.path / "val.jsonl"
    runs = []
    for command in (
        lambda: evaluate_run(found.model, machine=HERE),
        lambda: list(predict(found.model, manifest, machine=HERE)),
        lambda: compute_maps(found.model, items_of([str(manifest)]), machine=HERE),
        lambda: localize(found, machine=HERE),
    ):
        calls.clear()
        command()
        runs.append(list(calls))
    assert [call[0] for call in runs[0]] == [torch.device("cpu"), (4, 3, 128, 128), (4, 3, 128, 128)]
    assert runs[0][1][2:] == (torch.device("cpu"), "fp32", {True})
    assert runs[1:] == [runs[0]] * 3


def test_groups_and_files_agree(found: Evaluation, result: Localization) -> None:
    everything, by_size, by_label = result.groups
    assert everything[0].pairs == sum(g.pairs for g in by_size) == sum(g.pairs for g in by_label) == len(result.pairs)
    whole = everything[0].means["attended"]
    assert whole is not None
    assert whole.value == pytest.approx(np.mean([pair.attended for pair in result.pairs]))
    written = json.loads((found.path / "localization.json").read_text())
    assert written == result.to_dict()
    rows = list(csv.DictReader((found.path / "localization.csv").open()))
    assert [float(row["attended"]) for row in rows] == pytest.approx([p.attended for p in result.pairs], rel=1e-5)
    assert list(result.sharpness) == ["1", "inf"]
    assert result.sharpness["inf"] == pytest.approx(1)
    assert 1 < result.sharpness["1"] <= result.grid[0] * result.grid[1]
    assert len(result.tables) == 2


def test_masks_have_the_orientation_of_the_image(found: Evaluation, result: Localization, tmp_path: Path) -> None:
    """Pixels stored on their side, with the orientation that says so, and masks of the stored pixels: all as before."""
    scenes = Path(found.dataset.info.source["path"])
    turned = tmp_path / "scenes"
    (turned / "annotations").mkdir(parents=True)
    (turned / "val2014").mkdir()
    content = json.loads((scenes / "annotations" / "instances_val2014.json").read_text())
    from pycocotools import mask as rle

    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    for image in content["images"]:
        picture = Image.open(scenes / "val2014" / image["file_name"]).transpose(Image.Transpose.ROTATE_90)
        image["file_name"] = image["file_name"].replace(".jpg", ".png")
        picture.save(turned / "val2014" / image["file_name"], exif=exif)
        image["width"], image["height"] = picture.size
    for thing in content["annotations"]:
        seen = np.rot90(rle.decode(thing["segmentation"]))
        code = rle.encode(np.asfortranarray(seen))
        thing["segmentation"] = {"size": list(seen.shape), "counts": code["counts"].decode()}
        thing["bbox"] = [float(v) for v in rle.toBbox(code)]
    (turned / "annotations" / "instances_val2014.json").write_text(json.dumps(content))
    data = prepare("coco", turned, out=tmp_path / "data")
    again = localize(evaluate_run(found.model, data=data.path, split="val", machine=HERE), machine=HERE)
    ours, theirs = (np.array([(p.hit, p.covered, p.attended) for p in r.pairs]) for r in (again, result))
    np.testing.assert_allclose(ours, theirs, atol=2e-3)


def test_crowds_and_difficult_objects_are_ignored_and_empty_ones_left_out(tmp_path: Path) -> None:
    Image.new("RGB", (20, 10)).save(tmp_path / "a.png")
    things = Objects(
        ids=np.arange(5),
        labels=np.array([0, 0, 0, 1, 0]),
        boxes=np.array([[0, 0, 5, 5], [5, 0, 5, 5], [10, 0, 5, 5], [0, 0, 20, 10], [3, 3, 0, 0]], dtype=float),
        areas=np.ones(5),
        crowd=np.array([False, True, False, False, False]),
        difficult=np.array([False, False, True, False, False]),
        size=(20, 10),
        segmentations=(msgspec.Raw(b"null"),) * 5,
    )
    counted, ignored = _masks(tmp_path / "a.png", things)(0)
    assert [mask.sum() for mask in counted] == [25]
    assert counted[0][:5, :5].all()
    assert ignored.sum() == 50
    assert ignored[:5, 5:15].all()
    assert _masks(tmp_path / "a.png", things)(2)[0] == []


def test_a_model_of_stored_pixels_is_judged_on_stored_masks(tmp_path: Path) -> None:
    """As `--image-backend pil`, which reproduces the paper's input path and turns nothing."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (20, 10)).save(tmp_path / "a.png", exif=exif)
    things = Objects(
        ids=np.arange(1), labels=np.zeros(1, np.intp), boxes=np.array([[0.0, 0, 5, 5]]), areas=np.ones(1),
        crowd=np.zeros(1, bool), difficult=np.zeros(1, bool), size=(20, 10), segmentations=(msgspec.Raw(b"null"),),
    )  # fmt: skip
    (turned,), _ = _masks(tmp_path / "a.png", things)(0)
    (stored,), _ = _masks(tmp_path / "a.png", things, turned=False)(0)
    assert turned.shape == (20, 10)
    assert stored.shape == (10, 20)
    assert turned[:5, 5:].all()
    assert stored[:5, :5].all()


def test_only_the_requested_labels(found: Evaluation, result: Localization, tmp_path: Path) -> None:
    manifest = found.dataset.manifest("val")
    kept = [result.pairs[0].label, result.pairs[-1].label]
    names = [manifest.labels[k] for k in kept]
    run = shutil.copytree(found.model, tmp_path / "run")
    some = localize(evaluate_run(run, labels=names, machine=HERE), machine=HERE)
    assert some.pairs == [pair for pair in result.pairs if pair.label in kept]


def test_a_dataset_without_objects_is_refused(tmp_path: Path) -> None:
    data = make_tiny(tmp_path)
    run = train({**FAST, "data": str(data), "epochs": 1}, out=tmp_path / "runs")
    with pytest.raises(DataError, match="has no annotated objects"):
        localize(evaluate_run(run.path, machine=HERE), machine=HERE)
