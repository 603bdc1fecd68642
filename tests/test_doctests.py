"""Every `Example:` of the package is run, and every public name has one."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

import mlrec

MODULES = sorted(
    module.name for module in pkgutil.walk_packages(mlrec.__path__, "mlrec.") if not module.name.endswith("__main__")
)
CALLABLE = [name for name in mlrec.__all__ if callable(getattr(mlrec, name))]


@pytest.mark.parametrize("name", ["mlrec", *MODULES])
def test_the_examples_of_a_module_are_right(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # an example may write files
    results = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert results.failed == 0


@pytest.mark.parametrize("name", CALLABLE)
def test_every_public_name_has_an_example(name: str) -> None:
    documentation = inspect.getdoc(getattr(mlrec, name)) or ""
    _, section, example = documentation.partition("\nExample:\n")
    assert section, f"mlrec.{name} has no section Example:"
    assert ">>> " in example


def test_a_wrong_example_is_found() -> None:
    wrong = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, 0)
    silent = doctest.DocTestRunner(verbose=False)
    assert silent.run(wrong, out=lambda _: None).failed == 1
