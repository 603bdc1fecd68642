"""Processor time of drawing heat maps per photograph, next to a plain way of drawing the same picture.

python benchmarks/heat_maps.py FOLDER_OF_PHOTOGRAPHS [--images 24] [--rounds 5]

Both sides read a photograph, draw it next to three maps with labels and a color bar, and encode the picture. One side
draws as mlrec attend does. The other blends in floating point with matplotlib's color map and writes an optimized PNG,
once for the picture and once for the contact sheet, as mlrec did before. They alternate in one process on one thread.
"""

from __future__ import annotations

import argparse
import io
import itertools
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from paired import describe_machine, ratio_interval
from PIL import Image, ImageDraw, ImageFont

from mlrec.datasets.images.decode import decode
from mlrec.datasets.listing import Item, items_of
from mlrec.reports.figures.overlays import ColorScale, draw_strip, jpeg
from mlrec.workflows.evaluate.attend import SIDE, AttentionMaps, strip

LABELS = ("bus", "car", "person")
CELLS = 7


def maps_of(item: Item) -> AttentionMaps:
    """Return random maps: drawing takes the same time for any values."""
    maps = np.random.default_rng(0).normal(size=(len(LABELS), CELLS, CELLS)).astype(np.float32)
    return AttentionMaps(item, LABELS, np.array([0.9, 0.5, 0.1]), maps)


def drawn(one: AttentionMaps) -> bytes:
    """Draw as mlrec does."""
    return jpeg(draw_strip(strip(one, ColorScale.over([one.maps]))))


def plainly_drawn(one: AttentionMaps) -> list[bytes]:
    """Draw the same panels in the plain way, in the size of a file and in that of a thumbnail."""
    return [_plain_picture(one, side) for side in (SIDE, 200)]


def _plain_picture(one: AttentionMaps, side: int) -> bytes:
    from matplotlib import colormaps

    pixels = decode(one.item.path)
    picture = Image.fromarray(pixels)
    picture.thumbnail((side, side))
    limit = float(np.abs(one.maps).max())
    ramp = 255 * colormaps["RdBu_r"](np.linspace(1, 0, picture.height))[:, None, :3]
    panels = [np.asarray(picture, dtype=np.float64)]
    for values in one.maps:
        smooth = np.asarray(Image.fromarray(values).resize(picture.size, Image.Resampling.BILINEAR))
        colors = 255 * colormaps["RdBu_r"](smooth / (2 * limit) + 0.5)[..., :3]
        opacity = 0.8 * np.abs(smooth)[..., None] / limit
        panels.append(panels[0] + opacity * (colors - panels[0]))
    strip = np.concatenate([*panels, np.repeat(ramp, 12, axis=1)], axis=1)
    image = Image.fromarray(strip.round().astype(np.uint8))
    for k, label in enumerate(("image", *one.labels)):
        ImageDraw.Draw(image).text((k * picture.width, 0), label, font=ImageFont.load_default(size=12))
    content = io.BytesIO()
    image.save(content, "PNG", optimize=True)
    return content.getvalue()


def seconds(draw: Callable[[AttentionMaps], object], maps: list[AttentionMaps]) -> float:
    """Return the processor time per photograph."""
    begun = time.process_time()
    for one in maps:
        draw(one)
    return (time.process_time() - begun) / len(maps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    maps = [maps_of(item) for item in itertools.islice(items_of([str(options.folder)]), options.images)]
    for draw in (drawn, plainly_drawn):
        seconds(draw, maps[:1])  # fonts and imports
    ours, theirs = [], []
    for _ in range(options.rounds):
        theirs.append(seconds(plainly_drawn, maps))
        ours.append(seconds(drawn, maps))
    ratio, low, high = ratio_interval([slow / fast for slow, fast in zip(theirs, ours, strict=True)])
    print(describe_machine())
    print(f"{len(maps)} photographs, {len(LABELS)} maps each, {options.rounds} alternations, processor time")
    print(f"plain drawing  {1000 * statistics.median(theirs):6.1f} ms per photograph")
    print(f"mlrec          {1000 * statistics.median(ours):6.1f} ms per photograph")
    print(f"ratio          {ratio:6.1f} ({low:.1f}-{high:.1f})")


if __name__ == "__main__":
    main()
