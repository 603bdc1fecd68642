"""MkDocs hooks: the reference of commands and keys, equations as MathML, and links to files outside of docs/."""

from __future__ import annotations

import html
import re
import subprocess
import sys
from typing import Any

MATH = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)

# A link from a page in docs/ to a file outside of it, which the site does not contain.
OUTSIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./)+((?:mlrec|tests|benchmarks)/[^)]*|[A-Z][\w.]*)\)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Insert generated reference text, and show links to files of the repository as their paths."""
    for name, generate in GENERATED.items():
        if name in markdown:
            markdown = markdown.replace(name, generate())
    return OUTSIDE.sub(lambda found: f"{found[1]} (`{found[2]}`)", markdown)


def on_page_content(content: str, **_: Any) -> str:
    """Replace LaTeX by MathML, which browsers draw without a script."""
    return MATH.sub(lambda found: mathml(html.unescape(found[2]), block=found[1] == "div"), content)


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
    from mlrec.config import choices, value_kind

    if choices(key):
        return ", ".join(f"`{choice}`" for choice in choices(key))
    words = {list: "numbers", tuple: "two numbers", bool: "`true`, `false`", str: "text", int: "integer"}
    return words.get(value_kind(key), "number")


GENERATED = {"{{ commands }}": commands, "{{ config_keys }}": config_keys}
