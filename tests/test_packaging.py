"""The wheel and the source distribution, and the files for services that build and publish them."""

from __future__ import annotations

import ast
import email
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import mlrec

REPOSITORY = Path(__file__).parents[1]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TIERS = ("3.11", "3.12", "3.13", "3.14")


def run(*command: str, **options: Any) -> str:
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    run("-m", "build", "--no-isolation", "--outdir", str(folder), str(REPOSITORY))
    return folder


def files_of(folder: Path) -> tuple[set[str], set[str]]:
    (wheel,), (source,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive, tarfile.open(source) as tar:
        inside = {name.partition("/")[2] for name in tar.getnames()}
        return set(archive.namelist()), inside


def test_the_distributions_pass_twine(built: Path) -> None:
    assert run("-m", "twine", "--no-color", "check", "--strict", *map(str, built.iterdir())).count("PASSED") == 2


def test_the_distributions_hold_the_package_and_nothing_else(built: Path) -> None:
    wheel, source = files_of(built)
    tracked = subprocess.run(["git", "ls-files", "mlrec"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    package = set(tracked.stdout.split())
    information = {name for name in wheel if name.startswith(f"mlrec-{mlrec.__version__}.dist-info/")}
    assert wheel - information == package
    extra = {"PKG-INFO", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", ".gitignore"}
    assert source == package | extra
    secret = re.compile(rb"/(home|root|work)/\w+|hf_\w{30}|BEGIN [A-Z ]*PRIVATE KEY")
    for name in package:
        assert not secret.search((REPOSITORY / name).read_bytes()), name


def test_the_metadata_has_urls_versions_and_a_readme_without_relative_links(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        content = archive.read(f"mlrec-{mlrec.__version__}.dist-info/METADATA").decode()
    metadata = email.message_from_string(content)
    assert metadata["Author"]
    assert metadata["License-Expression"] == "Apache-2.0"
    assert {line.partition(",")[0] for line in metadata.get_all("Project-URL")} >= {"Homepage", "Source", "Changelog"}
    versions = {line.rpartition(" ")[2] for line in metadata.get_all("Classifier") if re.search(r":: 3\.\d+$", line)}
    assert versions == set(TIERS)
    text = metadata.get_payload()
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    assert len(targets) == len(re.findall(r"\]\(([^)\s]+)\)", (REPOSITORY / "README.md").read_text(encoding="utf-8")))
    assert all(target.startswith("https://") for target in targets)
    paths = [target.partition("/main/")[2] for target in targets if "/mlrec/mlrec/" in target]
    assert "docs/pictures/demo.png" in paths
    assert all((REPOSITORY / path).exists() for path in paths)


def test_the_wheel_installed_into_an_empty_folder_shows_help(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    run("-m", "pip", "install", "--no-deps", "--no-index", "-q", "--target", str(tmp_path / "site"), str(wheel))
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site"), "COLUMNS": "100"}
    code = "import mlrec; print(mlrec.__file__); from mlrec.datasets.readers.registry import READERS"
    assert run("-c", code, cwd=tmp_path, env=environment).startswith(str(tmp_path / "site"))
    assert "export-data" in run("-m", "mlrec", "--help", cwd=tmp_path, env=environment)
    assert "--backbone" in run("-m", "mlrec", "train", "--help", cwd=tmp_path, env=environment)
    assert "coco-mlrec" in run("-m", "mlrec", "recipes", cwd=tmp_path, env=environment)  # data files


def requirement_of(line: str) -> tuple[str, str]:
    requirement = Requirement(line)
    names = {"torch": "pytorch", "matplotlib": "matplotlib-base", "huggingface-hub": "huggingface_hub"}
    return names.get(requirement.name, requirement.name), str(requirement.specifier)


def test_the_conda_recipe_has_the_versions_of_the_project() -> None:
    recipe = yaml.safe_load((REPOSITORY / "recipe/recipe.yaml").read_text(encoding="utf-8"))
    assert recipe["context"]["version"] == mlrec.__version__
    expected = {requirement_of(line) for line in [*PROJECT["dependencies"], f"python{PROJECT['requires-python']}"]}
    assert {requirement_of(line.replace(" ", "")) for line in recipe["requirements"]["run"]} == expected
    (script,) = recipe["build"]["python"]["entry_points"]
    assert script == f"mlrec = {PROJECT['scripts']['mlrec']}"


def declared(lines: list[str]) -> set[str]:
    """Names of the packages of these requirements; an extra of mlrec itself stands for its own requirements."""
    names: set[str] = set()
    for requirement in map(Requirement, lines):
        if requirement.name != "mlrec":
            names.add(canonicalize_name(requirement.name))
        for extra in requirement.extras if requirement.name == "mlrec" else ():
            names |= declared(PROJECT["optional-dependencies"][extra])
    return names


def imported_by(folder: str) -> set[str]:
    """Top-level names that any file of a folder imports, also inside functions."""
    names: set[str] = set()
    for file in (REPOSITORY / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.partition(".")[0])
    return names - set(sys.stdlib_module_names) - {"mlrec", "tests"}


def test_every_package_that_tests_import_is_in_the_extra_dev() -> None:
    """What is only installed because another package needs it may be missing elsewhere."""
    extras = {name: declared(lines) for name, lines in PROJECT["optional-dependencies"].items()}
    everywhere = declared(PROJECT["dependencies"])
    packages = packages_distributions()
    packages["mlflow"] = ["mlflow-skinny"]  # also installed as a part of the package mlflow
    own = {file.stem for folder in ("benchmarks", "docs/examples") for file in (REPOSITORY / folder).rglob("*.py")}
    services = extras["wandb"] | extras["mlflow"] | extras["trackio"] | extras["ray"]  # of long tests
    allowed = {
        "tests": everywhere | extras["dev"] | services,
        "benchmarks": everywhere | extras["dev"],
    }
    for folder, names in allowed.items():
        for module in imported_by(folder) - own - {"mlrec_plugin"}:
            found = {canonicalize_name(name) for name in packages.get(module, [module])}
            assert found & names, f"{folder} imports {module}"


def test_the_install_page_lists_every_extra() -> None:
    page = (REPOSITORY / "docs/get-started/install.md").read_text(encoding="utf-8")
    first_cells = re.findall(r"^\| (`[^|]*) \|", page, re.MULTILINE)
    assert {name for cell in first_cells for name in re.findall(r"`(\w+)`", cell)} == set(
        PROJECT["optional-dependencies"]
    )


def schema_check(schema: str, *files: Path) -> None:
    assert "ok" in run("-m", "check_jsonschema", "--builtin-schema", schema, *map(str, files))


def test_the_workflows_are_valid_and_test_the_stated_versions() -> None:
    files = sorted((REPOSITORY / ".github/workflows").glob("*.yml"))
    assert [file.stem for file in files] == ["docs", "release", "tests"]
    schema_check("vendor.github-workflows", *files)
    matrix = yaml.safe_load(files[2].read_text(encoding="utf-8"))["jobs"]["tests"]["strategy"]["matrix"]
    assert (*matrix["python"], matrix["include"][0]["python"]) == TIERS
    release = yaml.safe_load(files[1].read_text(encoding="utf-8"))["jobs"]["publish"]
    assert release["permissions"] == {"id-token": "write"}  # trusted publishing: no token is stored
    assert "secrets." not in files[1].read_text(encoding="utf-8")


def test_the_citation_is_valid_and_of_this_version() -> None:
    schema_check("vendor.citation-file-format", REPOSITORY / "CITATION.cff")
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == mlrec.__version__
    assert citation["repository-code"] == PROJECT["urls"]["Source"]


def test_the_hooks_before_a_commit_run_commands_of_the_extra_dev() -> None:
    content = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    hooks = [hook for repository in content["repos"] for hook in repository["hooks"]]
    names = {Requirement(line).name for line in PROJECT["optional-dependencies"]["dev"]} | {"lint-imports"}
    assert {hook["entry"].split()[0] for hook in hooks} <= names


def test_the_image_installs_extras_that_exist_and_copies_files_that_exist() -> None:
    text = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")
    assert re.findall(r"^FROM .* AS (\w+)$", text, re.MULTILINE) == ["build", "base", "cpu", "cuda"]
    for extras in re.findall(r'"\$1\[([\w,]+)\]"', text):
        assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])
    for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE):
        allowed = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines()
        for path in line.split()[:-1]:
            assert (REPOSITORY / path).exists()
            assert f"!{path}" in allowed
