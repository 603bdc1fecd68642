"""Check the docs against the program: commands, flags, links, code blocks, examples, reference, the built site."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from typer.main import get_command
from typer.testing import CliRunner

from mlrec.cli.app import COMMANDS, app
from mlrec.config import FIELDS, PANELS, panel_of

REPOSITORY = Path(__file__).parents[1]
DOCS = REPOSITORY / "docs"
PAGES = sorted([*REPOSITORY.glob("*.md"), *DOCS.rglob("*.md")])
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path, *languages: str) -> list[str]:
    return [code for language, code in FENCE.findall(page.read_text(encoding="utf-8")) if language in languages]


@cache
def help_of(command: str, width: int = 200) -> str:
    result = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": str(width)}, terminal_width=width)
    assert result.exit_code == 0, result.output
    return result.output


def parameters_of(command: str) -> list[Any]:
    """The visible flags and arguments of a command, from Typer."""
    return [parameter for parameter in get_command(app).get_command(None, command).params if not parameter.hidden]


def command_lines() -> Iterator[tuple[str, str]]:
    """Every `mlrec ...` line of a shell block, with its page."""
    for page in PAGES:
        for block in blocks(page, "sh", "bash", "console"):
            for line in block.replace("\\\n", " ").splitlines():
                for part in re.split(r"&&|\||;", line.partition(" #")[0].removeprefix("$ ")):
                    if part.strip().startswith("mlrec "):
                        yield f"{page.relative_to(REPOSITORY)}", part.strip()


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hooks", DOCS / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_of_commands_has_every_command_and_option(hooks: ModuleType) -> None:
    text = hooks.commands()
    assert not re.findall(r"`[^`]*<[^`]*>`:", text)  # no types of the program, such as <list[str]>
    for command in COMMANDS:
        assert f"## `mlrec {command}`" in text
        section = text.partition(f"## `mlrec {command}`")[2].partition("\n## ")[0]
        flags = {flag for parameter in parameters_of(command) for flag in parameter.opts if flag.startswith("--")}
        assert flags
        for flag in flags:
            assert flag in section, (command, flag)


def test_the_reference_of_keys_has_every_key_of_the_config(hooks: ModuleType) -> None:
    rows = hooks.config_keys().splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == list(FIELDS)
    assert all(row.count(" | ") == 3 and not row.endswith("|  |") for row in rows)


def test_equations_become_mathml(hooks: ModuleType) -> None:
    page = hooks.on_page_content('<p><span class="arithmatex">\\(x_j\\)</span></p>')
    assert page.startswith("<p><math")
    assert "<msub>" in page


def test_links_out_of_the_site_are_shown_as_paths(hooks: ModuleType) -> None:
    text = hooks.on_page_markdown("see [the test](../../tests/test_cli.py) and [csra](csra.md)")
    assert text == "see the test (<code>tests/<wbr>test_cli.py</code>) and [csra](csra.md)"
    assert hooks.on_page_markdown("[test_cli.py](../../tests/test_cli.py)") == "<code>tests/<wbr>test_cli.py</code>"


def test_summaries_in_the_list_of_commands_are_whole(hooks: ModuleType) -> None:
    entries = re.findall(r"^\* \[`(\S+)`\]\(#mlrec-(\S+)\): (.+)$", hooks.commands(), re.MULTILINE)
    assert sorted(name for name, _, _ in entries) == sorted(COMMANDS)
    assert all(name == anchor and not summary.endswith("...") for name, anchor, summary in entries)


def test_source_of_a_function_is_inserted_without_its_docstring(hooks: ModuleType) -> None:
    page = hooks.on_page_markdown("{{ source mlrec/models/csra.py CSRA.forward }}")
    signature, *body = page.removeprefix("```python\n").removesuffix("\n```").splitlines()
    assert signature.startswith("def forward(self, features: Tensor) -> Tensor:")
    assert '"""' not in page
    lines = (REPOSITORY / "mlrec/models/csra.py").read_text(encoding="utf-8").splitlines()
    assert body
    assert all(f"    {line}" in lines for line in body)
    with pytest.raises(LookupError, match=r"csra\.py has no CSRA\.nothing"):
        hooks.source("mlrec/models/csra.py", "CSRA.nothing")


def test_places_named_on_the_page_on_reliability_exist() -> None:
    page = (DOCS / "explanation" / "reliability.md").read_text(encoding="utf-8")
    section = page.partition("## Never silently wrong")[2].partition("## Not guaranteed")[0]
    places = [line.split(" | ")[2] for line in section.splitlines() if line.startswith("| ")]
    places = [place for place in places if place not in ("prevented in", "---")]
    assert len(places) >= 28
    for place in places:
        for part in place.split("; "):
            path, *names = re.findall(r"`([^`]+)`", part)
            file = REPOSITORY / "mlrec" / path
            assert file.exists(), f"{path} is not in mlrec/"
            assert names or file.is_dir(), f"{path}: no function is named"
            for name in names:
                functions = {node.name for node in ast.parse(file.read_text()).body if hasattr(node, "name")}
                assert name in functions, f"mlrec/{path} has no {name}"


@pytest.mark.parametrize("page", sorted(DOCS.glob("how-to/*.md")), ids=lambda page: page.stem)
def test_every_how_to_begins_with_a_sentence_on_what_it_achieves(page: Path) -> None:
    heading, blank, first = page.read_text(encoding="utf-8").splitlines()[:3]
    assert heading.startswith("# ")
    assert blank == ""
    assert re.match(r"This page|`mlrec [\w-]+` ", first), f"{page.name}: {first}"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_documented_with_an_example(command: str) -> None:
    text = help_of(command)
    assert re.search(rf"Examples?:\s+mlrec {command}\b", text), f"{command}: the help shows no example"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_says_what_it_does(command: str) -> None:
    text = " ".join(help_of(command).replace("│", " ").split())
    for parameter in parameters_of(command):
        assert parameter.help, parameter.name
        assert " ".join(parameter.help.split()) in text, parameter.name
        for flag in (*parameter.opts, *parameter.secondary_opts):
            assert not flag.startswith("-") or re.search(rf" {flag}[ ,]", text), flag


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_80_columns_without_cut_or_broken_words(command: str) -> None:
    narrow = help_of(command, 80)
    assert all(len(line.rstrip()) <= 80 for line in narrow.splitlines())
    assert "…" not in narrow
    assert "<" not in narrow.partition("Example:")[0]  # no types of the program, such as <list[str]>
    wide = set(help_of(command).replace("│", " ").split())
    broken = {word for word in narrow.replace("│", " ").split() if word not in wide and not set(word) <= set("─╭╮╰╯")}
    assert not broken


def test_the_summaries_of_commands_are_whole_sentences_on_one_line() -> None:
    result = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "80"})
    for command in COMMANDS:
        assert re.search(rf"(?m)^│ {command} +[A-Z][^│]*\. *│$", result.output), command


def test_flags_of_training_are_in_the_panels_of_their_keys() -> None:
    titles = re.findall(r"(?m)^╭─ (\w+) ─", help_of("train"))
    assert titles == ["Arguments", "Options", *PANELS]
    for key in FIELDS:
        panel = help_of("train").partition(f"╭─ {panel_of(key)} ─")[2].partition("╰")[0]
        assert re.search(rf"--{key.replace('_', '-')}[ ,]", panel), key


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_that_take_one_dataset_take_it_as_argument_and_as_flag(command: str) -> None:
    parameters = parameters_of(command)
    by_argument = any(p.metavar == "DATA" and p.param_type_name == "argument" for p in parameters)
    by_flag = any("--data" in p.opts for p in parameters)
    takes_a_model = command in ("eval", "lambda-sweep", "tune", "export")  # as its argument
    assert by_argument == (by_flag and not takes_a_model)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_prints_json(command: str) -> None:
    assert "json" in {parameter.name for parameter in parameters_of(command)}


def test_commands_in_the_docs_exist_and_take_these_flags() -> None:
    lines = list(command_lines())
    assert len(lines) > 10
    for page, line in lines:
        words = shlex.split(line)
        if words[1].startswith("-"):
            continue
        assert words[1] in COMMANDS, f"{page}: {line}"
        for flag in (word.partition("=")[0] for word in words[2:] if word.startswith("--")):
            assert re.search(rf"{flag}\b(?!-)", help_of(words[1])), f"{page}: {line}: no {flag}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_have_a_target(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:", target):
            path, _, anchor = target.partition("#")
            linked = (page.parent / path).resolve() if path else page
            assert linked.exists(), f"{page.name}: {target}"
            assert not anchor or anchor in anchors(linked), f"{page.name}: no heading for {target}"


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    if page.name == "cli.md":  # generated when the site is built
        headings += [f"mlrec {command}" for command in COMMANDS]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_is_in_the_navigation() -> None:
    navigation = (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8")
    for page in DOCS.rglob("*.md"):
        assert f": {page.relative_to(DOCS)}\n" in navigation, page


def run_block(code: str, **names: Any) -> dict[str, Any]:
    exec(compile(code, "docs", "exec"), names)
    return names


def test_the_python_quick_start_runs_as_printed() -> None:
    first, second = blocks(REPOSITORY / "README.md", "python")
    offline = (
        first.replace("resnet50", "resnet18").replace("pretrained=True", "pretrained=False").replace("(8, 3", "(2, 3")
    )
    assert offline != first
    names = run_block(offline)
    assert names["logits"].shape == (2, 20)
    targets = (np.arange(40).reshape(2, 20) % 3 == 0).astype(np.int8)
    assert run_block(second, logits=names["logits"], targets=targets, names=[f"l{k}" for k in range(20)])["metrics"].mAP


def test_the_metric_of_the_how_to_is_computed_for_all_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mlrec import Predictions

    (tmp_path / "runs/mine").mkdir(parents=True)
    predictions = Predictions(("a", "b"), ("x",), np.array([[0.0, 1.0]]), np.array([[1, 0]], np.int8))
    predictions.save(tmp_path / "runs/mine/predictions.npz")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(DOCS / "examples/mlrec_plugin")
    run_block(*blocks(DOCS / "how-to" / "add-a-metric.md", "python"))
    assert capsys.readouterr().out == "mine 2.0\n"


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning:lightning")
def test_the_python_how_to_runs_as_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    from PIL import Image

    import mlrec
    from mlrec.datasets import dataset
    from tests.reports.builders import write_run

    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    targets, labels = rng.integers(-1, 2, (120, 2)).astype(np.int8), ("cat", "dog")
    images = tuple(f"{k}.png" for k in range(120))
    (tmp_path / "photos").mkdir()
    for name in images:
        Image.new("RGB", (20, 16)).save(tmp_path / "photos" / name)
    manifest = mlrec.Manifest("pets", "val", tmp_path / "photos", labels, images, targets)
    (tmp_path / "data" / "pets").mkdir(parents=True)
    dataset.write(tmp_path / "data/pets", dataset.Info("pets", {}, "mlrec", list(labels), {"val": 120}), [manifest])
    for name, lam in (("a", 0.1), ("b", 0.3)):
        logits, config = targets + rng.normal(size=targets.shape), {"lam": lam}
        write_run(
            tmp_path / "runs", name, config=config, logits=logits, targets=targets, labels=labels, sample_ids=images
        )
    table = manifest.to_frame().reset_index(drop=True).rename(columns={"image": "filename"})
    table.assign(split=["train", "val"] * 60, photographer="me").to_csv("labels.csv", index=False)
    names: dict[str, Any] = {}
    for code in blocks(DOCS / "how-to" / "python.md", "python"):
        assert len(code.splitlines()) <= 15
        assert all(len(line) <= 120 for line in code.splitlines())
        run_block_in(code, names)
    assert "True" in capsys.readouterr().out.splitlines()  # the digest after Hugging Face
    assert names["images"].shape == (8, 3, 64, 64)
    assert names["dogs"].targets[:, 1].tolist() == [1] * (targets[:, 1] == 1).sum()
    assert names["train"].targets.tolist() == targets[::2].tolist()
    assert sorted(path.name for path in tmp_path.glob("*.*")) == [
        "labels.csv", "per_label.csv", "report.xlsx", "train.jsonl",
    ]  # fmt: skip
    module = names["Classifier"](names["torch"].nn.Flatten(), list(labels))
    module.metric.update(names["torch"].tensor([[1.0, -1.0]]), names["torch"].tensor([[1, 0]]))
    assert module.metric.metrics().OF1 == 1.0


def run_block_in(code: str, names: dict[str, Any]) -> None:
    """Run a block that goes on with the names of earlier ones."""
    exec(compile(code, "docs", "exec"), names)


@pytest.mark.long
def test_the_tutorial_runs_as_written(tmp_path: Path) -> None:
    lines = [line for block in blocks(DOCS / "tutorial.md", "sh") for line in block.splitlines()]
    runnable = [line for line in lines if "labels.csv" not in line]  # those take the reader's own files
    assert len(runnable) >= 5
    for line in runnable:
        arguments = [sys.executable, "-m", *shlex.split(line)]
        done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=900)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
    assert len(list((tmp_path / "runs").iterdir())) == 2


def test_the_equations_of_csra_give_the_printed_numbers() -> None:
    import torch

    (code,) = blocks(DOCS / "explanation" / "csra.md", "python")
    names = run_block(code)
    head, features = names["head"], names["features"]
    torch.testing.assert_close(head(features), torch.tensor([[1.0389]]), atol=5e-5, rtol=0)
    torch.testing.assert_close(head.scores(features).flatten(), torch.tensor([0.6, 0.8, 1.4]))
    attention = torch.tensor([0.225, 0.275, 0.5])
    torch.testing.assert_close(head.attention(features).flatten(), attention, atol=5e-4, rtol=0)


EXAMPLES = {
    "own_data.py": (r"mAP (9\d|100)\.\d%", ["data/photos/dataset.json", "runs/csra/predictions.npz"]),
    "csra_in_your_loop.py": (r"mAP (9\d|100)\.\d%", []),
    "score_predictions.py": (r"mAP \d\d\.\d%, CF1", ["per_label.csv"]),
}


@pytest.mark.parametrize("script", sorted(path.name for path in DOCS.glob("examples/*.py")))
def test_examples_run_as_printed(script: str, tmp_path: Path) -> None:
    result, files = EXAMPLES[script]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error::UserWarning", str(DOCS / "examples" / script)]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert re.search(result, done.stdout), done.stdout
    assert all((tmp_path / file).is_file() for file in files)
    (page,) = (page for page in DOCS.glob("examples/*.md") if f"docs/examples/{script}" in page.read_text())
    for printed in blocks(page, "text"):
        assert printed.startswith("python ") or printed == done.stdout, printed


class Loads(HTMLParser):
    """Addresses that a browser loads with a page; a link that the user may click is not one of them."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.components: set[str] = set()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name in ("src", "srcset", "data", "poster") or (name == "href" and tag != "a"):
                self.addresses.append(value or "")
            if name in ("class", "data-md-component"):
                self.components |= set((value or "").split())


ELSEWHERE = re.compile(r"(?:https?:)?//[\w.-]+\.\w+")
# What the theme's script loads: for a diagram (class mermaid), for a link to the repository (component source), and in
# browsers of 2019 and older without ResizeObserver. No page has the first two.
CONDITIONAL = r"https://(unpkg\.com/mermaid|unpkg\.com/resize-observer-polyfill|api\.github\.com/|gitlab\.com/)"


def test_the_site_builds_searches_and_loads_nothing_from_another_host(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    site = tmp_path / "site"
    pages = list(site.rglob("*.html"))
    assert len(pages) > len(list(DOCS.rglob("*.md")))  # one each, and 404.html
    for page in pages:
        loads = Loads()
        loads.feed(page.read_text(encoding="utf-8"))
        assert loads.addresses
        assert not [address for address in loads.addresses if ELSEWHERE.match(address)], page
        assert not loads.components & {"mermaid", "source"}
    for sheet in site.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        loaded = re.findall(r"url\(\s*[\"']?([^)\"']+)|@import\s+[\"']([^\"']+)", text)
        assert not [address for pair in loaded for address in pair if ELSEWHERE.match(address)], sheet
    for script in (site / "assets/javascripts").glob("*.js"):
        found = re.findall(r"[\"'`]((?:https?:)?//[\w.-]+\.\w+/[^\"'`]*)", script.read_text(encoding="utf-8"))
        assert not [address for address in found if not re.match(CONDITIONAL, address)], script
    index = json.loads((site / "search/search_index.json").read_text(encoding="utf-8"))
    assert any("class-specific" in entry["text"].lower() for entry in index["docs"])
    shown = (site / "explanation/csra/index.html").read_text(encoding="utf-8")
    assert "<math" in shown
    assert "{{" not in shown
    assert "attended" in shown
