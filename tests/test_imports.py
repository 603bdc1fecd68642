"""What `mlrec train` and `mlrec eval` import and run does not grow unnoticed; counted by benchmarks/imports.py."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "imports.py"
MODULES = {"train": 64, "eval": 67}  # all that are imported, the empty `__init__` of folders included
CONTENT = {"train": 39, "eval": 41}  # with content, outside of utils
STORY = {"train": 39, "eval": 37}  # files in which functions run, outside of utils


@pytest.mark.long
def test_a_training_and_an_evaluation_import_what_they_use() -> None:
    spec = importlib.util.spec_from_file_location("imports", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    imports = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(imports)
    usages = imports.measure()
    for command, usage in usages.items():
        assert len(usage["modules"]) <= MODULES[command], usage["modules"]
        assert len(imports.with_content(usage)) <= CONTENT[command], imports.with_content(usage)
        assert len(imports.story(usage)) <= STORY[command], imports.story(usage)
        assert not [name for name in usage["modules"] if name.startswith(("mlrec.sweeps", "mlrec.datasets.readers"))]
    assert not [name for name in usages["train"]["modules"] if name.startswith("mlrec.reports")]
    assert "pandas" not in usages["train"]["packages"]
    assert "numpy" in usages["train"]["packages"]
