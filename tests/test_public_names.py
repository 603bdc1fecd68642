"""What is public is documented, typed, and of a piece; what is imported is declared."""

from __future__ import annotations

import ast
import inspect
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import mlrec

REPOSITORY = Path(__file__).parents[1]
FILES = sorted((REPOSITORY / "mlrec").rglob("*.py"))
OTHER_NAMES = {"PIL": "pillow", "mlflow": "mlflow-skinny", "tomli_w": "tomli-w", "yaml": "pyyaml"}
PUBLIC = [name for name in mlrec.__all__ if name != "__version__"]


def trees() -> Iterator[tuple[Path, ast.Module]]:
    for file in FILES:
        yield file, ast.parse(file.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_are_documented_and_typed(name: str) -> None:
    thing = getattr(mlrec, name)
    assert inspect.getdoc(thing)
    if inspect.isclass(thing):
        own = [member for key, member in vars(thing).items() if inspect.isfunction(member) and not key.startswith("_")]
    else:
        own = [thing]
        assert "Raises:" in inspect.getdoc(thing), "a public function says what can go wrong"
    for function in own:
        assert inspect.getdoc(function), function
        signature = inspect.signature(function)
        assert signature.return_annotation is not inspect.Signature.empty, function
        for parameter in signature.parameters.values():
            assert parameter.name == "self" or parameter.annotation is not inspect.Parameter.empty, (name, parameter)


def test_the_reference_documents_exactly_the_public_names() -> None:
    page = (REPOSITORY / "docs" / "reference" / "python.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^::: mlrec\.(\w+)$", page, re.MULTILINE)) == sorted(PUBLIC)


def test_all_errors_are_values_errors_of_ours() -> None:
    from mlrec.utils import errors

    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, Exception)]
    assert len(kinds) >= 6
    assert all(issubclass(kind, mlrec.MlrecError) and issubclass(kind, ValueError) for kind in kinds)


def imported() -> dict[str, Path]:
    """Distributions that the package imports, and a file that does."""
    found: dict[str, Path] = {}
    for file, tree in trees():
        for node in ast.walk(tree):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                modules = [node.module or ""]
            for top in {module.partition(".")[0] for module in modules}:
                if top not in sys.stdlib_module_names and top != "mlrec":
                    found[OTHER_NAMES.get(top, top).lower().replace("_", "-")] = file
    return found


def declared(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=!~\[; ]", requirement)[0].lower().replace("_", "-") for requirement in requirements}


def test_every_import_is_declared_and_every_dependency_imported() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    plain = declared(project["dependencies"])
    optional = declared([need for extra in project["optional-dependencies"].values() for need in extra])
    found = imported()
    undeclared = {name: str(file) for name, file in found.items() if name not in plain | optional}
    assert not undeclared
    assert not plain - set(found), "declared, and imported nowhere"


def test_only_the_console_writes_to_the_terminal() -> None:
    for file, tree in trees():
        calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        if file.name not in ("console.py", "app.py", "worker.py"):  # a worker's streams are its log
            assert not calls & {"print", "sys.stdout.write", "sys.stderr.write"}, file


def test_no_file_is_long_or_unfinished() -> None:
    assert max(len(file.read_text(encoding="utf-8").splitlines()) for file in FILES) <= 500
    for file, tree in trees():
        assert ast.get_docstring(tree), f"{file}: says what is in it"
        assert not re.search(r"\b(TODO|FIXME|XXX)\b", file.read_text(encoding="utf-8")), file
