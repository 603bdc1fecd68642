"""Pictures of maps: the right maps, of the right labels, under names that are safe."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from mlrec.cli.app import app
from mlrec.datasets.images.decode import upright, upright_box
from mlrec.datasets.listing import Item, items_of
from mlrec.models.checkpoint import save_model
from mlrec.models.classifier import create_model
from mlrec.reports.figures.overlays import ColorScale, FileNames, picture_of
from mlrec.utils.errors import DataError, PredictionsError, UsageError
from mlrec.workflows.evaluate import attend as workflow
from mlrec.workflows.evaluate.attend import AttentionMaps, attend, compute_maps, draw_maps
from mlrec.workflows.runtime import RuntimeOptions

HERE = RuntimeOptions(workers=0, device="cpu")
LABELS = ["cat", "dog", "a/b", "owl"]
BACKBONES = {"test_efficientnet": 64, "test_vit": 160}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder, found = tmp_path_factory.mktemp("attend"), {}
    torch.manual_seed(0)
    for name, size in BACKBONES.items():
        for head, heads in (("csra", 4), ("average", None)):
            model = create_model(name, 4, head, heads, 0.5, img_size=size, labels=LABELS).eval()
            found[f"{name}-{head}"] = folder / f"{name}-{head}.safetensors"
            save_model(found[f"{name}-{head}"], model, {})
    return found


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photos") / "wide one.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 110, 3), dtype=np.uint8)).save(path)
    return path


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("head", ["csra", "average"])
def test_maps_sum_to_the_logits(models: dict[str, Path], photo: Path, backbone: str, head: str) -> None:
    (one,) = compute_maps(models[f"{backbone}-{head}"], items_of([str(photo)]), machine=HERE)
    assert len(one.labels) == 3
    assert list(one.probabilities) == sorted(one.probabilities, reverse=True)
    logits = one.maps.sum(axis=(1, 2)).astype(float)
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), one.probabilities, atol=1e-5)


def test_labels_and_heads_by_name(models: dict[str, Path], photo: Path) -> None:
    csra, average = models["test_efficientnet-csra"], models["test_efficientnet-average"]
    items = list(items_of([str(photo)]))
    (one,) = compute_maps(csra, items, labels=["owl", "cat"], temperature=float("inf"), machine=HERE)
    assert one.labels == ("owl", "cat")
    assert sorted(one.maps[0].ravel())[-2:] == [0.0, 1.0]
    (soft,) = compute_maps(csra, items, temperature=2.0, machine=HERE)
    np.testing.assert_allclose(soft.maps.sum(axis=(1, 2)), 1, atol=1e-5)
    with pytest.raises(PredictionsError, match="did you mean 'owl'"):
        compute_maps(csra, items, labels=["owls"], machine=HERE)
    with pytest.raises(UsageError, match="no head has this temperature; choose one of 1, 2, 4, inf"):
        compute_maps(csra, items, temperature=3.0, machine=HERE)
    with pytest.raises(UsageError, match="only csra and spatial heads have temperatures"):
        compute_maps(average, items, temperature=1.0, machine=HERE)


def test_images_and_contact_sheet_are_written_and_unreadable_images_are_reported_at_the_end(
    models: dict[str, Path], photo: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.png"
    bad.touch()
    items = [
        Item(str(photo), photo),
        Item(str(bad), bad),
        Item("../../escape", photo, (10, 5, 60, 40)),
        Item("sheet", photo, (10, 5, 60, 40)),
    ]
    with pytest.raises(DataError, match=r"bad\.png"):
        attend(models["test_efficientnet-csra"], items, out=tmp_path / "out", machine=HERE)
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"wide_one.jpg", "escape.jpg", "sheet-2.jpg", "sheet.jpg"}
    for name in written:
        Image.open(tmp_path / "out" / name).verify()


def test_the_command(models: dict[str, Path], photo: Path, tmp_path: Path) -> None:
    boxes = tmp_path / "boxes.csv"
    boxes.write_text(f"filename,x,y,width,height\n{photo},5,5,40,40\n")
    common = ["attend", "--run", str(models["test_vit-csra"]), "--out", str(tmp_path / "out"), "--workers", "0"]
    for arguments in (
        [str(photo), "--label", "dog", "--temperature", "inf"],
        ["--boxes", str(boxes), "--top", "1", "--scale", "sheet"],
    ):
        result = CliRunner().invoke(app, [*common, *arguments])
        assert result.exit_code == 0, result.output
        assert result.stdout.splitlines()[-1] == str(tmp_path / "out" / "sheet.jpg")
    assert isinstance(CliRunner().invoke(app, common).exception, UsageError)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_box_is_at_its_place_in_the_upright_image(orientation: int) -> None:
    stored = np.zeros((40, 70, 3), np.uint8)
    stored[5:20, 30:60] = 255
    left, top, right, bottom = upright_box((30, 5, 30, 15), (70, 40), orientation)
    turned = upright(stored, orientation)
    assert (turned[top:bottom, left:right] == 255).all()
    assert turned.sum() == stored.sum()


def test_the_box_shrinks_with_the_picture(photo: Path) -> None:
    pixels, box = picture_of(Item("x", photo, (22, 10, 44, 20)), 55)
    assert pixels.shape == (25, 55, 3)
    assert box == (11, 5, 33, 15)
    assert picture_of(Item("x", photo), 55)[1] is None
    pixels, box = picture_of(Item("x", photo, (22, 10, 44, 20)), 220)
    assert pixels.shape == (100, 220, 3), "small photographs are enlarged"
    assert box == (44, 20, 132, 60)


def test_file_names_are_distinct() -> None:
    names = FileNames()
    items = [Item("a/x.jpg", Path("a/x.jpg")), Item("b/X.jpg", Path("b/X.jpg")), Item("..", Path("c"))]
    assert [names.of(item) for item in items] == ["x.jpg", "X-2.jpg", "image.jpg"]


def maps_of(photo: Path, count: int, peak: float = 1.0) -> list[AttentionMaps]:
    """Maps with one location that contributes; the k-th image has the peak `peak * (k + 1)`."""
    maps = np.zeros((1, 5, 11), np.float32)
    maps[0, 2, 5] = peak
    return [AttentionMaps(Item(f"{k}.png", photo), ("cat",), np.array([0.5]), maps * (k + 1)) for k in range(count)]


def test_contact_sheets_have_at_most_40_images_each(photo: Path, tmp_path: Path) -> None:
    written = draw_maps(maps_of(photo, 101), tmp_path, None, "note")
    sheets = [path.name for path in written[101:]]
    assert sheets == ["sheet-1-of-3.jpg", "sheet-2-of-3.jpg", "sheet-3-of-3.jpg"]
    assert len(set(written)) == 104
    sizes = [Image.open(path).size for path in written]
    width, height = sizes[0]
    assert width >= 2 * 320, "image and map"
    for size, images in zip(sizes[101:], (40, 40, 21), strict=True):
        columns, rows = size[0] // width, size[1] // height
        assert columns * rows >= images
        assert columns * (rows - 1) < images


def test_a_scale_per_image_shows_every_peak_and_a_shared_scale_compares_them(photo: Path) -> None:
    small, large = maps_of(photo, 2, peak=0.01)
    own = [workflow.strip(one, ColorScale.over([one.maps])).panels[1].pixels for one in (small, large)]
    assert np.array_equal(*own)
    shared = ColorScale.over([small.maps, large.maps])
    weak, strong = (workflow.strip(one, shared).panels[1].pixels for one in (small, large))
    assert np.array_equal(strong, own[1])
    photograph = workflow.strip(small, shared).panels[0].pixels.astype(int)
    assert 0 < np.abs(weak - photograph).sum() < np.abs(strong - photograph).sum()


@pytest.mark.parametrize("head", ["attention-pool", "ml-decoder", "q2l"])
def test_heads_with_queries_show_their_attention(tmp_path: Path, head: str) -> None:
    Image.new("RGB", (64, 64), "red").save(tmp_path / "a.png")
    model = create_model("test_resnet", 2, head, img_size=64, labels=["cat", "dog"], decoder_dim=16)
    (maps,) = compute_maps(model, items_of([str(tmp_path / "a.png")]))
    assert maps.maps.shape == (2, 2, 2)
    np.testing.assert_allclose(maps.maps.sum((1, 2)), 1, rtol=1e-5)
    assert maps.meaning == "attention of the label's query"
