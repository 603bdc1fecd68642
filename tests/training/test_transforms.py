"""Views of an image, against torchvision and PIL."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms as v1
from torchvision.transforms import v2

from mlrec.config import Config
from mlrec.models.preprocessing import NORMALIZATIONS, Preprocessing
from mlrec.training.randaugment import OPERATIONS, apply_operations, draw_operations
from mlrec.training.transforms import VIEWS, View, draw_view, normalize, pictures, tensors

SIGNED = {"ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast", "Sharpness"}


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    coarse = np.random.default_rng(3).integers(30, 200, (7, 9, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((150, 110), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("size", [32, 200])
@pytest.mark.parametrize("how", ["bilinear", "bicubic"])
def test_the_plain_view_is_torchvisions_squash(pixels: np.ndarray, size: int, how: str) -> None:
    expected = np.asarray(v1.Resize((size, size), v1.InterpolationMode(how))(Image.fromarray(pixels)))
    by_pil = pictures(pixels, None, size, how).permute(1, 2, 0).numpy()
    by_torch = tensors(pixels, None, size, how).permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(by_pil, expected)
    assert np.abs(by_torch.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("seed", range(4))
def test_both_paths_show_the_same_augmented_view(pixels: np.ndarray, seed: int) -> None:
    view = draw_view(Config(seed=seed, cutout=0.3), 2, 5, 110, 150, 64)
    fast, slow = (make(pixels, view, 64, "bilinear").numpy().astype(int) for make in VIEWS.values())
    assert np.abs(fast - slow).max() <= 1


def test_a_view_is_crop_then_resize_then_flip(pixels: np.ndarray) -> None:
    view = View(top=10, left=20, height=50, width=80, flip=True)
    expected = Image.fromarray(pixels).crop((20, 10, 100, 60)).resize((40, 40), Image.Resampling.BILINEAR)
    expected = np.asarray(expected.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    np.testing.assert_array_equal(pictures(pixels, view, 40, "bilinear").permute(1, 2, 0).numpy(), expected)


def test_an_image_of_the_wanted_size_is_left_as_it_is(pixels: np.ndarray) -> None:
    square = np.ascontiguousarray(pixels[:100, :100])
    np.testing.assert_array_equal(tensors(square, None, 100, "bicubic").permute(1, 2, 0).numpy(), square)


def test_the_arrays_given_are_not_changed(pixels: np.ndarray) -> None:
    before = pixels.copy()
    view = View(0, 0, 110, 150, hole=(0, 0, 50, 50), operations=(("Solarize", 0.8),))
    for make in VIEWS.values():
        make(pixels, view, 110, "bilinear")
    square = np.ascontiguousarray(pixels[:100, :100])
    square_before = square.copy()
    tensors(square, View(0, 0, 100, 100, hole=(0, 0, 50, 50)), 100, "bilinear")
    np.testing.assert_array_equal(pixels, before)
    np.testing.assert_array_equal(square, square_before)


def test_draws_depend_on_seed_epoch_and_sample_and_on_nothing_else() -> None:
    torch.manual_seed(0)
    draws = {
        (seed, epoch, sample): draw_view(Config(seed=seed), epoch, sample, 480, 640, 448)
        for seed in range(2)
        for epoch in range(2)
        for sample in range(16)
    }
    state = torch.get_rng_state()
    torch.manual_seed(1)
    np.random.default_rng().random()
    assert draw_view(Config(seed=1), 1, 7, 480, 640, 448) == draws[1, 1, 7]
    assert len(set(draws.values())) == len(draws)
    torch.manual_seed(0)
    assert torch.equal(torch.get_rng_state(), state), "drawing took from torch's own stream"


def test_crops_have_the_area_and_the_ratio_asked_for() -> None:
    torch.manual_seed(0)
    config = Config(scale=(0.3, 0.9), ratio=(0.5, 2.0))
    views = [draw_view(config, 0, k, 300, 400, 64) for k in range(500)]
    areas = np.array([view.height * view.width / 120_000 for view in views])
    ratios = np.array([view.width / view.height for view in views])
    assert all(0 <= v.top <= 300 - v.height and 0 <= v.left <= 400 - v.width for v in views)
    blank = torch.zeros(3, 300, 400)
    theirs = [v1.RandomResizedCrop.get_params(blank, config.scale, config.ratio) for _ in range(500)]
    assert areas.min() > 0.29
    assert areas.max() < 0.91
    assert areas.mean() == pytest.approx(np.mean([h * w / 120_000 for _, _, h, w in theirs]), abs=0.04)
    assert np.log(ratios).mean() == pytest.approx(np.mean([np.log(w / h) for _, _, h, w in theirs]), abs=0.08)
    assert np.mean([view.flip for view in views]) == pytest.approx(0.5, abs=0.07)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 500), (500, 1), (3, 7)])
def test_any_shape_has_a_crop_inside(height: int, width: int) -> None:
    for sample in range(50):
        view = draw_view(Config(), 0, sample, height, width, 32)
        assert view.height >= 1
        assert view.width >= 1
        assert view.top + view.height <= height
        assert view.left + view.width <= width


def test_without_crop_and_flip_the_whole_image_is_seen() -> None:
    assert draw_view(Config(crop=False, hflip=0.0), 0, 0, 30, 40, 32) == View(0, 0, 30, 40)


def test_cutout_covers_its_share(pixels: np.ndarray) -> None:
    holes = [draw_view(Config(cutout=0.5), 0, k, 110, 150, 64).hole for k in range(300)]
    assert all(hole is not None and 0 <= hole[0] < hole[2] <= 64 and 0 <= hole[1] < hole[3] <= 64 for hole in holes)
    image = tensors(pixels, View(0, 0, 110, 150, hole=(8, 16, 24, 48)), 64, "bilinear")
    assert (image[:, 8:24, 16:48] == 128).all()
    assert (image == 128).all(dim=0).sum() < 16 * 32 + 64


def torchvision_output(image: object, name: str, magnitude: int, *, negative: bool) -> np.ndarray:
    """The output of torchvision's own RandAugment whose draws are fixed: this operation, in this direction."""
    transform = v2.RandAugment(num_ops=1, magnitude=magnitude)
    transform._AUGMENTATION_SPACE = {name: v2.RandAugment._AUGMENTATION_SPACE[name]}  # type: ignore[misc]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "rand", lambda *_: torch.tensor(0.2 if negative else 0.8))
        return as_array(transform(image))


def as_array(image: object) -> np.ndarray:
    return image.permute(1, 2, 0).numpy() if isinstance(image, torch.Tensor) else np.asarray(image)


def test_the_operations_are_torchvisions_fourteen() -> None:
    assert set(OPERATIONS) == set(v2.RandAugment._AUGMENTATION_SPACE)
    drawn = {name for k in range(400) for name, _ in draw_operations(np.random.default_rng(k), 2, 9, 64)}
    assert drawn == set(OPERATIONS)


@pytest.mark.parametrize("kind", ["tensor", "pil"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_gives_torchvisions_pixels(pixels: np.ndarray, name: str, kind: str) -> None:
    square = np.ascontiguousarray(pixels[:108, :108])
    image = torch.from_numpy(square).permute(2, 0, 1) if kind == "tensor" else Image.fromarray(square)
    for magnitude in (0, 1, 5, 9, 14, 21, 30):
        drawn = {
            value
            for k in range(600)
            for drawn_name, value in draw_operations(np.random.default_rng(k), 1, magnitude, 108)
            if drawn_name == name
        }
        assert len(drawn) == (2 if name in SIGNED and magnitude else 1)
        for value in drawn:
            expected = torchvision_output(image, name, magnitude, negative=value < 0)
            np.testing.assert_array_equal(as_array(apply_operations(image, ((name, value),))), expected)


def test_several_operations_are_applied_in_order(pixels: np.ndarray) -> None:
    image = Image.fromarray(np.ascontiguousarray(pixels[:100, :100]))
    operations = draw_operations(np.random.default_rng(5), 3, 20, 100)
    expected: object = image
    for name, value in operations:
        expected = Image.fromarray(torchvision_output(expected, name, 20, negative=value < 0))
    np.testing.assert_array_equal(np.asarray(apply_operations(image, operations)), np.asarray(expected))


@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_normalize_is_torchvisions(pixels: np.ndarray, name: str) -> None:
    mean, std = NORMALIZATIONS[name]
    images = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].contiguous(memory_format=torch.channels_last)
    expected = v1.Normalize(mean, std)(v1.ToTensor()(Image.fromarray(pixels)))[None]
    result = normalize(images, Preprocessing(110, mean, std))
    torch.testing.assert_close(result, expected, atol=2e-6, rtol=0)
    assert result.is_contiguous(memory_format=torch.channels_last)
