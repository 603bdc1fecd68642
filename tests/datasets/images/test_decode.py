"""The one decoder, beside Pillow and beside arithmetic."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps, PngImagePlugin

from mlrec.datasets.images import decode
from mlrec.utils.errors import DataError


def smooth(height: int = 20, width: int = 30, seed: int = 0) -> NDArray[np.uint8]:
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def save(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, **options)
    return path


def oriented(path: Path, orientation: int, **options: Any) -> Path:
    exif = Image.Exif()
    exif[decode.ORIENTATION_TAG] = orientation
    return save(path, Image.fromarray(smooth()), exif=exif, **options)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
def test_exif_orientation_is_applied_as_pillow_does(tmp_path: Path, suffix: str, orientation: int) -> None:
    path = oriented(tmp_path / f"a.{suffix}", orientation)
    with Image.open(path) as stored:
        expected = np.asarray(ImageOps.exif_transpose(stored).convert("RGB"))
    found = decode.decode(path)
    assert found.shape == expected.shape
    assert found.flags.c_contiguous
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_the_pil_path_rotates_nothing(tmp_path: Path) -> None:
    path = oriented(tmp_path / "a.jpg", 6)
    with Image.open(path) as stored:
        np.testing.assert_array_equal(decode.decode(path, "pil"), np.asarray(stored.convert("RGB")))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_box_turns_with_its_image(tmp_path: Path, orientation: int) -> None:
    path = oriented(tmp_path / "a.png", orientation)
    x, y, width, height = 3, 5, 11, 7
    with Image.open(path) as stored:
        part = Image.fromarray(np.asarray(stored)[y : y + height, x : x + width])
    exif = Image.Exif()
    exif[decode.ORIENTATION_TAG] = orientation
    stream = io.BytesIO()
    part.save(stream, "PNG", exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(stream)))
    np.testing.assert_array_equal(decode.decode_box(path, (x, y, width, height)), expected)


@pytest.mark.parametrize(
    "box", [(2, 3, 10, 8), (-4, -2, 12, 9), (25, 15, 20, 20), (1.4, 2.6, 5.2, 4.9), (40, 40, 3, 3)]
)
def test_a_crop_is_pillows_crop(box: tuple[float, ...]) -> None:
    pixels = smooth()
    x, y, width, height = box
    expected = Image.fromarray(pixels).crop((round(x), round(y), round(x + width), round(y + height)))
    np.testing.assert_array_equal(decode.crop(pixels, box), np.asarray(expected))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_scaled_not_cut(tmp_path: Path, suffix: str) -> None:
    ramp = np.linspace(0, 65535, 256 * 16).round().astype(np.uint16).reshape(64, 64)
    found = decode.decode(save(tmp_path / f"a.{suffix}", Image.fromarray(ramp)))
    assert found.mean() == pytest.approx(127.5, abs=1)
    assert (found.min(), found.max()) == (0, 255)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr"])
def test_opaque_modes_are_what_pillow_makes_of_them(tmp_path: Path, mode: str) -> None:
    path = save(tmp_path / "a.tif", Image.fromarray(smooth()).convert(mode))
    with Image.open(path) as stored:
        np.testing.assert_array_equal(decode.decode(path), np.asarray(stored.convert("RGB")))


def test_a_cmyk_jpeg_has_the_right_colors(tmp_path: Path) -> None:
    pixels = smooth()
    path = save(tmp_path / "a.jpg", Image.fromarray(pixels).convert("CMYK"), quality=100)
    assert np.abs(decode.decode(path).astype(int) - pixels).mean() < 3


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_alpha_is_laid_on_white(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGBA", (4, 2), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 2, 2))
    image.putpixel((2, 0), (0, 0, 0, 51))
    path = save(tmp_path / "a.tif", image.convert(mode)) if mode != "PA" else save(tmp_path / "a.png", image.quantize())
    found = decode.decode(path)[0, :, 0]
    np.testing.assert_allclose(found, [0, 0, 204, 255], atol=1)


def test_palette_transparency_gives_no_warning(tmp_path: Path) -> None:
    image = Image.fromarray(smooth()).quantize(8)
    path = save(tmp_path / "a.png", image, transparency=bytes([0, 255, 128, 255, 255, 255, 255, 255]))
    assert decode.decode(path).shape == (20, 30, 3)


def test_the_first_frame_of_an_animation_counts(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    path = save(tmp_path / "a.gif", frames[0], save_all=True, append_images=frames[1:])
    stored = decode.load(path)
    assert stored.animated
    assert stored.pixels[0, 0].tolist() == [255, 0, 0]
    assert not decode.load(save(tmp_path / "b.gif", frames[0])).animated


@pytest.mark.parametrize(("mode", "said"), [("F", "float"), ("I", "32-bit integer")])
def test_pixels_without_a_range_are_refused(tmp_path: Path, mode: str, said: str) -> None:
    path = save(tmp_path / "a.tif", Image.new(mode, (4, 4)))
    with pytest.raises(DataError, match=said):
        decode.decode(path)


@pytest.mark.parametrize("how", ["fast", "pil"])
@pytest.mark.parametrize("cut", [2, 40, 400])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_truncated_jpeg_is_refused(tmp_path: Path, mode: str, cut: int, how: decode.Decoder) -> None:
    path = save(tmp_path / "a.jpg", Image.fromarray(smooth(64, 64)).convert(mode), quality=95)
    assert decode.decode(path, how).shape == (64, 64, 3)
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(DataError, match=r"a\.jpg: truncated"):
        decode.decode(path, how)


@pytest.mark.parametrize("suffix", ["png", "gif", "bmp", "webp", "tif"])
def test_a_truncated_file_of_any_format_is_refused(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"a.{suffix}", Image.fromarray(smooth(64, 64)))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=r"a\."):
        decode.decode(path)


@pytest.mark.parametrize("cut", [1, 2, 8])
@pytest.mark.parametrize("suffix", ["png", "gif"])
def test_a_missing_end_is_noticed_though_all_pixels_are_there(tmp_path: Path, suffix: str, cut: int) -> None:
    path = save(tmp_path / f"a.{suffix}", Image.fromarray(smooth(64, 64)))
    whole = path.read_bytes()
    path.write_bytes(whole + b"bytes after the end")
    assert decode.decode(path).shape == (64, 64, 3)
    path.write_bytes(whole[:-cut])
    with pytest.raises(DataError, match=rf"a\.{suffix}: truncated"):
        decode.decode(path)


def test_changed_pixels_of_a_png_are_noticed(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", Image.fromarray(smooth(64, 64)), compress_level=0)
    data = bytearray(path.read_bytes())
    data[data.index(b"IDAT") + 2000] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match="checksum"):
        decode.decode(path)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_damage_within_a_jpeg_is_noticed(tmp_path: Path, mode: str) -> None:
    path = save(tmp_path / "a.jpg", Image.fromarray(smooth(64, 64)).convert(mode), quality=95)
    data = bytearray(path.read_bytes())
    data[-900:-880] = b"\xff\x72" * 10
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"a\.jpg: (truncated|damaged)"):
        decode.decode(path)


def test_a_jpeg_of_endless_scans_is_refused_and_one_that_only_looks_so_is_not(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", Image.fromarray(smooth(64, 64)), progressive=True)
    data = path.read_bytes()
    last = data[data.rindex(b"\xff\xda") : -2]
    path.write_bytes(data[:-2] + last * 200 + data[-2:])
    for how in ("fast", "pil"):
        with pytest.raises(DataError, match="scans"):
            decode.decode(path, how)
    path.write_bytes(data[:2] + b"\xff\xe4" + (402).to_bytes(2) + b"\xff\xda" * 200 + data[2:])
    assert decode.decode(path).shape == (64, 64, 3)


def test_bytes_between_image_and_end_marker_are_harmless(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", Image.fromarray(smooth(64, 64)), quality=95)
    expected, data = decode.decode(path), path.read_bytes()
    path.write_bytes(data[:-2] + b"\x00\x00\x00" + data[-2:])
    np.testing.assert_allclose(decode.decode(path), expected, atol=2)


def test_broken_exif_and_icc_are_ignored(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", Image.fromarray(smooth()), exif=b"Exif\0\0II*\0\xff\xff\xff\xff", icc_profile=b"no")
    assert decode.decode(path).shape == (20, 30, 3)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git lfs pull"),
        (b"\n<!DOCTYPE html><html>", "HTML page"),
        (b"some text", "not an image in a supported format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image in a supported format"),
        (b"BM" + bytes(60), "a.jpg"),
    ],
)
def test_files_that_are_not_images_are_reported_in_one_line(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(DataError, match=said) as caught:
        decode.decode(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.jpg")
    for path in (tmp_path, tmp_path / "fifo.jpg", Path("/dev/zero")):
        with pytest.raises(DataError, match="not a regular file"):
            decode.decode(path)
    with pytest.raises(DataError, match="no such image"):
        decode.decode(tmp_path / "none.jpg")
    with pytest.raises(DataError, match="cannot be read"):
        decode.decode(tmp_path / ("a" * 5000))


def png(width: int, height: int, *more: tuple[bytes, bytes]) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes((width + 1) * min(height, 100))))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunk(*one) for one in more) + pixels + chunk(b"IEND", b"")


@pytest.mark.parametrize(("width", "height"), [(9460, 9459), (50_000, 50_000), (1, 2**31 - 1)])
def test_more_pixels_than_the_limit_are_refused_by_the_header(tmp_path: Path, width: int, height: int) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(width, height))
    for read in (decode.decode, decode.read_size):
        with pytest.raises(DataError, match="pixels"):
            read(path)


def test_text_that_unpacks_beyond_measure_is_refused(tmp_path: Path) -> None:
    bomb = b"k\0\0" + zlib.compress(bytes(PngImagePlugin.MAX_TEXT_CHUNK + 10))
    path = tmp_path / "a.png"
    path.write_bytes(png(4, 4, (b"zTXt", bomb)))
    with pytest.raises(DataError, match="compressed text"):
        decode.decode(path)


def test_size_is_that_of_the_stored_image(tmp_path: Path) -> None:
    assert decode.read_size(oriented(tmp_path / "a.jpg", 6)) == (30, 20)
