"""What starts quickly must stay so: layers, and no torch below or before them."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import mlrec

REPOSITORY = Path(__file__).parents[1]
HEAVY = ("torch", "torchvision", "timm", "pandas", "matplotlib", "sklearn", "optuna")
TORCH_FREE = (
    "datasets",
    "metrics",
    "runs",
    "reports",
    "predictions",
    "config",
    "files",
    "errors",
    "progress",
)
COMMANDS = [["--help"], *([name, "--help"] for name in ("score", "report", "prepare", "train", "sweep"))]
PLAN = ["--data", "data/truth", "--train-split", "all", "--split", "all", "--lam", "0,0.1", "--dry-run"]


def heavy_after(code: str, cwd: Path | None = None) -> str:
    """The heavy packages that another Python has loaded after running `code`."""
    tell = f"import sys; print('LOADED', *[name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{tell}"], capture_output=True, text=True, check=True, cwd=cwd, timeout=60
    )
    return done.stdout.splitlines()[-1].removeprefix("LOADED").strip()


def test_the_package_and_its_torch_free_layers_import_nothing_heavy() -> None:
    found = pkgutil.walk_packages(mlrec.__path__, "mlrec.")
    names = [module.name for module in found if module.name.split(".")[1] in TORCH_FREE]
    assert len(names) > 15
    assert heavy_after("\n".join(f"import {name}" for name in ["mlrec", *names])) == ""


def test_help_and_the_commands_that_need_no_model_import_no_torch(tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_text("filename,cat,dog\na.jpg,0.9,0.2\nb.jpg,0.1,0.7\n")
    (tmp_path / "truth.csv").write_text("filename,cat,dog\na.jpg,1,0\nb.jpg,0,1\n")
    lines = [*COMMANDS, ["prepare", "csv", "truth.csv", "--no-verify"], ["score", "scores.csv", "truth.csv", "--json"]]
    lines += [["sweep", *PLAN]]
    code = f"""
import contextlib, io, sys
from mlrec.cli.app import main
for line in {lines}:
    sys.argv = ["mlrec", *line]
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            main()
        except SystemExit as leave:
            assert not leave.code, (line, leave.code)
"""
    loaded = heavy_after(code, tmp_path).split()
    assert "torch" not in loaded
    assert {"torchvision", "timm", "matplotlib"}.isdisjoint(loaded)


def test_the_guard_can_see(tmp_path: Path) -> None:
    (tmp_path / "sklearn.py").write_text("")
    assert heavy_after("import sklearn", tmp_path) == "sklearn"


def test_layers_are_kept() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["CSRA", "create_model"])
def test_public_names_are_loaded_when_asked_for(name: str) -> None:
    assert callable(getattr(mlrec, name))
    assert name in dir(mlrec)
