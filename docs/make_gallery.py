"""Draw the pictures of the docs from synthetic scenes.

python docs/make_gallery.py [--work gallery]

Runs mlrec demo in the folder `gallery`, unless it has been run there, and then the commands that docs/gallery.md names.
The report page is photographed by Chromium.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image

PICTURES = Path(__file__).parent / "pictures"
LARGEST = 1_500_000  # bytes of all pictures


def mlrec(*arguments: object) -> None:
    """Run a command as the docs print it."""
    subprocess.run([sys.executable, "-m", "mlrec", *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


def screenshot(page: Path, width: int, height: int, *, dark: bool) -> Image.Image:
    """Return the upper part of a page as Chromium shows it."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        raise SystemExit("no Chromium, so report.png is not drawn again: apt-get install chromium")
    file = page.with_name(f"screenshot-{width}.png")
    scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", scheme]
    size = [f"--screenshot={file.resolve()}", f"--window-size={width},{height}", page.resolve().as_uri()]
    subprocess.run([*command, *size], check=True, capture_output=True)
    return Image.open(file).convert("RGB")


def report_picture(page: Path) -> Image.Image:
    """Return the page at the width of a laptop, light, next to that of a phone, dark."""
    parts = [screenshot(page, 1280, 1700, dark=False), screenshot(page, 420, 1700, dark=True)]
    picture = Image.new("RGB", (1280 + 20 + 420, 1700), "#808890")
    picture.paste(parts[0], (0, 0))
    picture.paste(parts[1], (1300, 0))
    return picture.resize((1290, 1275), Image.Resampling.LANCZOS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("gallery"), help="Folder of the demo and its runs.")
    work = parser.parse_args().work
    demo, data = work / "demo", work / "demo/data/shapes"
    if not (demo / "predictions.png").exists():
        mlrec("demo", "--out", demo)
    scenes_with_labels = Image.open(demo / "predictions.png").convert("RGB")
    scenes_with_labels.quantize(256).save(PICTURES / "demo.png", optimize=True)  # a fifth of the size
    scenes = sorted((demo / "scenes").glob("val*/*"))[:2]
    mlrec("attend", *scenes, "--run", demo / "runs/csra-0", "--out", work / "attention")
    shutil.copy(work / "attention/sheet.jpg", PICTURES / "attention.jpg")
    mlrec("stats", data, "--figure", work / "dataset.png")
    Image.open(work / "dataset.png").convert("RGB").reduce(2).save(PICTURES / "dataset.png", optimize=True)
    mlrec("report", demo / "runs", "--out", work / "results.html")
    shown = report_picture(work / "results.html")
    shown.quantize(256, method=Image.Quantize.MAXCOVERAGE).save(  # keeps the rare colors of lines
        PICTURES / "report.png", optimize=True
    )
    total = sum(path.stat().st_size for path in PICTURES.iterdir())
    print(f"{PICTURES}: {total:,} bytes")
    if total > LARGEST:
        raise SystemExit(f"the pictures have {total:,} bytes, more than {LARGEST:,}")


if __name__ == "__main__":
    main()
