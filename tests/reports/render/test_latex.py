"""LaTeX that LaTeX takes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from mlrec.reports.paper.table1 import table_1
from mlrec.reports.paper.tables import TABLES, paper_table
from mlrec.reports.render.formats import FORMATS
from tests.reports.render.test_formats import HOSTILE, hostile

PAGES = [paper_table(number, []) for number in TABLES] + [table_1([])] + [hostile(name) for name in HOSTILE]


@pytest.mark.parametrize("table", PAGES, ids=lambda table: table.title[:12])
def test_environments_braces_and_cells_are_balanced(table):
    text = FORMATS["latex"]([table])
    assert text.count(r"\begin{") == text.count(r"\end{") == 2
    plain = text.replace(r"\{", "").replace(r"\}", "")
    assert plain.count("{") == plain.count("}")
    rows = [line for line in text.splitlines() if line.endswith(r"\\") and r"\multicolumn" not in line]
    assert {line.replace(r"\&", "").count("&") for line in rows} == {len(table.columns) - 1}
    assert text.replace("λ", "").isascii(), "every sign of ours has its command"


def test_a_compiler_takes_all_tables_without_an_error(tmp_path: Path):
    compiler = shutil.which("pdflatex")
    if compiler is None:
        pytest.skip("no pdflatex, so no LaTeX was compiled: apt-get install texlive-latex-recommended")
    body = FORMATS["latex"](PAGES)
    head = r"\documentclass{article}\usepackage[T1]{fontenc}\usepackage{booktabs}\begin{document}" + "\n"
    (tmp_path / "all.tex").write_text(head + body + "\\clearpage\\end{document}\n", encoding="utf-8")
    done = subprocess.run(
        [compiler, "-interaction=nonstopmode", "-halt-on-error", "all.tex"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, errors="replace",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "all.pdf").stat().st_size > 10_000
