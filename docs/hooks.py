"""MkDocs hooks: generated reference, source code of functions, equations as MathML, links to files outside of docs/."""

from __future__ import annotations

import ast
import html
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]

MATH = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)

# A link from a page in docs/ to a file outside of it, which the site does not contain.
OUTSIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./)+((?:mlrec|tests|benchmarks)/[^)]*|[A-Z][\w.]*)\)")


# {{ source FILE NAME }}: the code of a function or a method (Class.method), without its docstring.
SOURCE = re.compile(r"\{\{ source (\S+) (\S+) \}\}")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Insert generated reference text and source code, and show links to files of the repository as their paths."""
    for name, generate in GENERATED.items():
        if name in markdown:
            markdown = markdown.replace(name, generate())
    markdown = SOURCE.sub(lambda found: f"```python\n{source(found[1], found[2])}\n```", markdown)
    return OUTSIDE.sub(lambda found: _as_path(found[1], found[2]), markdown)


def on_page_content(content: str, **_: Any) -> str:
    """Replace LaTeX by MathML, which browsers draw without a script."""
    return MATH.sub(lambda found: mathml(html.unescape(found[2]), block=found[1] == "div"), content)


def _as_path(text: str, path: str) -> str:
    shown = f"<code>{path.replace('/', '/<wbr>')}</code>"  # a browser may break a long path after a slash only
    return shown if path.endswith(text) else f"{text} ({shown})"


def source(file: str, name: str) -> str:
    """Code of a function of the repository, without its docstring.

    Args:
        file: Path below the repository.
        name: Function, or Class.method.

    Raises:
        LookupError: The file has no such function; the site is not built with stale code.
    """
    text = (REPOSITORY / file).read_text(encoding="utf-8")
    node: Any = ast.parse(text)
    for part in name.split("."):
        nodes = [child for child in node.body if getattr(child, "name", None) == part]
        if not nodes:
            raise LookupError(f"{file} has no {name}; correct the page that shows its source")
        node = nodes[0]
    numbers = set(range(node.lineno, node.end_lineno + 1))
    if ast.get_docstring(node) is not None:
        numbers -= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    lines = text.splitlines()
    return textwrap.dedent("\n".join(lines[number - 1] for number in sorted(numbers)))


def mathml(latex: str, *, block: bool) -> str:
    """One equation as MathML."""
    from latex2mathml.converter import convert

    latex = latex.strip().replace("{aligned}", "{align*}")  # the name that latex2mathml knows
    drawn: str = convert(latex, display="block" if block else "inline")
    return drawn


def commands() -> str:
    """Every command with its options as Markdown, written by Typer's own generator."""
    program = [sys.executable, "-m", "typer", "mlrec.cli.app", "utils", "docs", "--name", "mlrec"]
    done = subprocess.run(program, capture_output=True, text=True, check=True)  # noqa: S603 - our own program
    text = done.stdout.partition("\n")[2]
    # Typer cuts the summaries in the list of commands at 45 characters; the sections have them whole.
    summaries = dict(re.findall(r"^## `mlrec (\S+)`\n\n(.+)$", text, re.MULTILINE))
    for name, summary in summaries.items():
        entry = f"* [`{name}`](#mlrec-{name}): {summary}"
        text = re.sub(rf"^\* `{name}`: .*$", lambda _, entry=entry: entry, text, count=1, flags=re.MULTILINE)
    return re.sub(r"^\* `([^`<]+) <[^`]*>`", r"* `\1`", text, flags=re.MULTILINE)  # types of arguments, as <list[str]>


def config_keys() -> str:
    """Every key of `Config` as a Markdown table: name, values, default, meaning."""
    from mlrec.config import FIELDS, description_of

    rows = ["| key | values | default | meaning |", "|---|---|---|---|"]
    for name, field in FIELDS.items():
        text = description_of(name).replace("|", "\\|")
        default = "" if field.default is None else _toml(field.default)
        rows.append(f"| `{name}` | {_kind(name)} | {default} | {text} |")
    return "\n".join(rows)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`[{', '.join(f'{v:.4g}' for v in value)}]`"
    return f'`"{value}"`' if isinstance(value, str) else f"`{value}`"


def _kind(key: str) -> str:
    from mlrec.config import NAME_LISTS, choices, value_kind

    if key in NAME_LISTS:
        return "names"
    if choices(key):
        return ", ".join(f"`{choice}`" for choice in choices(key))
    words = {list: "numbers", tuple: "two numbers", bool: "`true`, `false`", str: "text", int: "integer"}
    return words.get(value_kind(key), "number")


GENERATED = {"{{ commands }}": commands, "{{ config_keys }}": config_keys}
