"""`mlrec.predict` from Python: the same image has the same scores in whatever form it is given."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import mlrec
from mlrec.cli.app import app
from mlrec.datasets.images.decode import decode
from mlrec.datasets.listing import Item
from mlrec.models.checkpoint import save_model
from mlrec.utils import web
from mlrec.utils.errors import ConfigError, DataError, MlrecError, ModelError, UsageError
from mlrec.workflows.deploy import predict_inputs
from mlrec.workflows.deploy.predict_inputs import items_from
from mlrec.workflows.runtime import RuntimeOptions
from tests.http_server import reply, serving

SECRET = "hunter2"


@pytest.fixture(scope="module")
def model() -> Any:
    return mlrec.create_model("test_resnet", 3, img_size=32, labels=["a", "b", "c"], pretrained=False)


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rotated JPEG, as phones write them."""
    path = tmp_path_factory.mktemp("photo") / "photo.jpg"
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(path, quality=95, exif=exif)
    return path


def scores(model: Any, images: Any, **options: Any) -> np.ndarray:
    """Probabilities with a batch size of one, so that they do not depend on the number of images."""
    machine = RuntimeOptions(batch_size=1, workers=0, device="cpu")
    return np.array([one.probabilities for one in mlrec.predict(model, images, machine=machine, **options)])


def forms(photo: Path) -> dict[str, Any]:
    pixels = decode(photo)
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    return {
        "path": photo,
        "text": str(photo),
        "bytes": photo.read_bytes(),
        "bytearray": bytearray(photo.read_bytes()),
        "stream": io.BytesIO(photo.read_bytes()),
        "array": pixels,
        "view": np.asfortranarray(pixels)[:, :],
        "tensor": tensor,
        "float tensor": tensor / 255,
        "half tensor with gradient": (tensor / 255).double().requires_grad_(),
        "upright picture": Image.fromarray(pixels),
        "item": Item("x", photo),
    }


def test_all_forms_of_an_image_have_the_scores_of_its_file(model: Any, photo: Path) -> None:
    expected = scores(model, photo)
    for name, image in forms(photo).items():
        np.testing.assert_array_equal(scores(model, image), expected, err_msg=name)
        if name != "stream":  # which is read only once
            np.testing.assert_array_equal(scores(model, [image]), expected, err_msg=name)
    with photo.open("rb") as opened:
        (one,) = mlrec.predict(model, opened)
    assert one.id == str(photo)


def test_a_picture_is_rotated_as_its_file_is(model: Any, photo: Path) -> None:
    with Image.open(photo) as picture:
        np.testing.assert_allclose(scores(model, picture), scores(model, photo), atol=0.02)  # another JPEG decoder
        (item,) = items_from(picture)
        assert item.content.shape == (60, 40, 3)  # type: ignore[union-attr]
        upside = np.asarray(picture.convert("RGB").rotate(-90, expand=True))
        np.testing.assert_array_equal(item.content, upside)  # Pillow's own rotation as the judge
    grey = Image.fromarray(np.full((5, 5), 40000, dtype=np.uint16))
    assert next(items_from(grey)).content[0, 0].tolist() == [156] * 3  # type: ignore[index]  # 40000 / 257 = 155.6


def test_batches_and_mixed_iterables_keep_their_order(model: Any, photo: Path) -> None:
    pixels = decode(photo)
    other = np.ascontiguousarray(255 - pixels)
    batch = torch.from_numpy(np.stack([pixels, other])).permute(0, 3, 1, 2)
    expected = np.concatenate([scores(model, pixels), scores(model, other)])
    np.testing.assert_array_equal(scores(model, batch), expected)
    np.testing.assert_array_equal(scores(model, np.stack([pixels, other])), expected)
    mixed = [photo, batch[1], photo.read_bytes(), [other]]
    np.testing.assert_array_equal(scores(model, iter(mixed)), expected[[0, 1, 0, 1]])
    ids = [one.id for one in mlrec.predict(model, mixed)]
    assert ids == [str(photo), "image-0", "image-1", "image-2"]


def test_a_reused_buffer_is_copied(model: Any, photo: Path) -> None:
    """A camera writes each frame into the same memory, and decoding runs ahead."""
    frames = [decode(photo), 255 - decode(photo)]
    buffer = np.empty_like(frames[0])

    def camera(convert: Any) -> Iterator[Any]:
        for frame in frames:
            buffer[:] = frame
            yield convert(buffer)

    expected = scores(model, np.stack(frames))
    np.testing.assert_array_equal(scores(model, camera(lambda b: b)), expected)
    shared = torch.from_numpy(buffer).permute(2, 0, 1)
    np.testing.assert_array_equal(scores(model, camera(lambda _: shared)), expected)


@pytest.mark.parametrize(
    ("image", "told"),
    [
        (np.full((5, 5, 3), 77.125), r"shape \(5, 5, 3\) and dtype float64"),
        (np.full((3, 5, 5), 77, dtype=np.uint8), r"\(3, 5, 5\) and dtype uint8"),
        (np.full((5, 5), 77, dtype=np.uint8), r"\(5, 5\)"),
        (np.empty((0, 5, 3), dtype=np.uint8), r"\(0, 5, 3\)"),
        (np.array(["hunter2"]), r"\(1,\)"),
        (torch.full((5, 5, 3), 77, dtype=torch.uint8), r"tensor of shape \(5, 5, 3\)"),
        (torch.full((3, 5, 5), 77.125), r"outside \[0, 1\]"),
        (torch.full((3, 5, 5), float("nan")), r"outside \[0, 1\]"),
        (torch.full((3, 5, 5), 77, dtype=torch.int64), "torch.int64"),
        ({"hunter2": 1}, "type dict is not an image"),
        (77.125, "type float is not an image"),
        (None, "type NoneType is not an image"),
        (io.StringIO("hunter2"), "text mode; open it with"),
        (b"hunter2" * 9, "image-0: not an image in a supported format"),
        (io.BytesIO(b"hunter2" * 9), "image-0: not an image in a supported format"),
    ],
)
def test_errors_are_ours_and_have_no_content(image: Any, told: str, model: Any) -> None:
    with pytest.raises(MlrecError, match=told) as caught:
        list(mlrec.predict(model, image))
    assert SECRET not in str(caught.value)
    assert "77" not in str(caught.value)


def test_a_damaged_picture_is_an_unreadable_image(model: Any, photo: Path) -> None:
    cut = Image.open(io.BytesIO(photo.read_bytes()[:-900]))
    seen: list[str] = []
    found = list(mlrec.predict(model, [cut, photo], on_error=lambda item, error: seen.append(str(error))))
    assert len(found) == 1
    assert seen[0].startswith("image-0: truncated")
    floats = Image.fromarray(np.zeros((4, 4), dtype=np.float32))
    with pytest.raises(DataError, match="image-0: the value range of float pixels is unknown"):
        list(mlrec.predict(model, floats))


def test_urls_only_when_asked(model: Any, photo: Path) -> None:
    for url in ("https://example.com/a.jpg?token=hunter2", f"http://u:{SECRET}@example.com/a.jpg", "s3://bucket/a"):
        with pytest.raises(UsageError, match="allow_urls=True or --allow-urls") as caught:
            list(mlrec.predict(model, url))
        assert SECRET not in str(caught.value)
        with pytest.raises(UsageError, match="allow_urls"):
            list(mlrec.predict(model, [photo, url]))


def test_urls_have_the_scores_of_the_file(model: Any, photo: Path) -> None:
    policy = web.WebPolicy(allows=lambda address: str(address) == "127.0.0.1", seconds=20)
    with serving(lambda request: reply(request, 200, photo.read_bytes())) as server:
        url = f"{server}/photo.jpg?token={SECRET}"
        with pytest.raises(DataError, match="private or reserved address"):
            list(mlrec.predict(model, url, allow_urls=True))  # this machine is not public
        (item,) = items_from(url, allow_urls=True, policy=policy)
        assert item.id == f"{server}/photo.jpg"
        np.testing.assert_array_equal(scores(model, item), scores(model, photo))


def test_the_command_takes_urls(photo: Path, model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_model(tmp_path / "model.safetensors", model, {})
    arguments = ["predict", "--run", str(tmp_path / "model.safetensors"), "--device", "cpu", "--workers", "0"]
    with serving(lambda request: reply(request, 200, photo.read_bytes())) as server:
        refused = CliRunner().invoke(app, [*arguments, f"{server}/a.jpg", "--allow-urls"])
        assert isinstance(refused.exception, DataError)
        assert "private or reserved address" in refused.stderr
        policy = web.WebPolicy(allows=lambda address: str(address) == "127.0.0.1", seconds=20)
        monkeypatch.setattr(predict_inputs.web, "WebPolicy", lambda: policy)
        for extra in ([], ["--out", str(tmp_path / "out.csv")]):
            result = CliRunner().invoke(app, [*arguments, f"{server}/a.jpg", "--allow-urls", *extra])
            assert result.exit_code == 0, result.output
        rows = (tmp_path / "out.csv").read_text().splitlines()
        assert rows[1].startswith(f"{server}/a.jpg,")


def test_the_pil_backend_of_the_paper_does_not_rotate(photo: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with Image.open(photo) as picture:
            (item,) = items_from(picture, how="pil")
            np.testing.assert_array_equal(item.content, decode(photo, "pil"))


def test_a_model_in_training_mode_stays_in_training_mode(photo: Path) -> None:
    model = mlrec.create_model("test_resnet", 3, img_size=32, head_dropout=0.5, pretrained=False)
    expected = scores(model.eval(), photo)
    maps = mlrec.attention(model, photo, top=3)[0].maps
    stored = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.train()
    model.backbone.eval()  # the backbone alone may be in eval mode, for example if it is frozen
    np.testing.assert_array_equal(scores(model, photo), expected)
    np.testing.assert_array_equal(mlrec.attention(model, photo, top=3)[0].maps, maps)
    assert model.head.training
    assert not model.backbone.training
    assert all(torch.equal(tensor, stored[name]) for name, tensor in model.state_dict().items())


def test_manifests_and_samples_are_read(model: Any, photo: Path) -> None:
    targets = np.zeros((2, 1), np.int8)
    boxes = np.array([[0, 0, 20, 20], [10, 5, 20, 30]], np.float64)
    images = (photo.name, photo.name)
    manifest = mlrec.Manifest("m", "s", photo.parent, ("a",), images, targets, boxes, ("one", "two"))
    found = list(mlrec.predict(model, manifest))
    assert [(one.id, one.item.box) for one in found] == [("one", (0, 0, 20, 20)), ("two", (10, 5, 20, 30))]
    assert next(mlrec.predict(model, manifest[1])).id == "two"


@pytest.mark.parametrize("threshold", [50, -0.1, float("nan"), [0.5, 0.5]])
def test_invalid_thresholds_are_reported(model: Any, photo: Path, threshold: Any) -> None:
    with pytest.raises(UsageError, match="expected one number from 0 to 1, or 3 such numbers"):
        mlrec.predict(model, photo, threshold=threshold)


def test_a_model_of_another_kind_is_reported(photo: Path) -> None:
    with pytest.raises(ModelError, match="a model of type Linear has no labels"):
        mlrec.predict(torch.nn.Linear(2, 2), photo)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [0, -1])
def test_batch_sizes_below_one_are_reported(size: int) -> None:
    with pytest.raises(ConfigError, match=f"batch_size = {size}: expected `int` >= 1"):
        RuntimeOptions(batch_size=size)
