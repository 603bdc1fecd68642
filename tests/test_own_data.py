"""The page on own data, command by command, on a small folder and spreadsheet and with a tiny model."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from mlrec.cli.app import app

PAGE = Path(__file__).parents[1] / "docs/how-to/own-data.md"
LABELS = ("bus", "car", "cat", "person", "train")
TINY = "--backbone test_resnet --no-pretrained --img-size 32 --epochs 2 --batch-size 8 --workers 0 --device cpu"
# what the commands of the page would do on a real set, on a set of nothing but noise
INSTEAD = {
    "mlrec train --recipe demo": f"mlrec train {TINY}",
    "mlrec eval --top3": "mlrec eval --top3 --workers 0 --device cpu",
    "mlrec label-errors --head average": f"mlrec label-errors --recipe paper {TINY} --folds 2 --head average",
}


def photographs(root: Path) -> None:
    """Sixty noisy pictures, two of them twice, and their spreadsheet with one unknown label."""
    rng = np.random.default_rng(0)
    (root / "photos").mkdir()
    lines = [",".join(("filename", *LABELS))]
    for k in range(60):
        pixels = np.repeat(np.repeat(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8), 5, 0), 5, 1)
        name = f"{k:06}.jpg"
        Image.fromarray(pixels).save(root / "photos" / name)
        if k in (7, 8):
            Image.fromarray(pixels).resize((80, 80)).save(root / "photos" / f"again{k}.jpg", quality=60)
            lines.append(f"again{k}.jpg,0,0,1,0,0")
        labels = (rng.random(5) < 0.4).astype(int).tolist()
        lines.append(",".join([name, *map(str, labels[:3]), "-1" if k == 26 else str(labels[3]), str(labels[4])]))
    (root / "labels.csv").write_text("\n".join(lines) + "\n")


def commands() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line]


def test_every_command_of_the_page_runs_in_its_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photographs(tmp_path)
    monkeypatch.chdir(tmp_path)
    told = {}
    assert set(INSTEAD) <= set(commands())
    for command in commands():
        words = shlex.split(INSTEAD.get(command, command))
        assert words[0] == "mlrec"
        result = CliRunner().invoke(app, words[1:], catch_exceptions=False)
        assert result.exit_code == 0, f"{command}: {result.output}"
        told[words[1]] = result.output
    assert "power: mAP on all (62 images)" in told["stats"]
    assert "2 pairs of near-duplicates" in told["duplicates"]
    assert "groups kept together: 2" in told["split"]
    assert "annotations to review; expected" in told["label-errors"]
    for file in ("photos.png", "twins.png", "label-errors/label_errors.csv", "label-errors/label_errors.png"):
        assert (tmp_path / file).stat().st_size > 0
