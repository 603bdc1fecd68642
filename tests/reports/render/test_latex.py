"""LaTeX to paste: it compiles, fits into the page, and has captions, labels and citations."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from mlrec.reports.paper.citations import bibliography
from mlrec.reports.paper.figure5 import CurvePoint, Series, figure5_panels
from mlrec.reports.paper.figure5_latex import lambda_figure
from mlrec.reports.paper.layout import paper_layout, table1_layout
from mlrec.reports.paper.table1 import table_1
from mlrec.reports.paper.tables import TABLES, paper_table
from mlrec.reports.render.latex import document, escape, latex, packages
from mlrec.reports.render.table import Column, Row, Table
from mlrec.utils.errors import RunError, UsageError
from mlrec.workflows.report import latex_files
from mlrec.workflows.report.latex_files import write_latex, write_pdf
from tests.reports.render.test_formats import HOSTILE, hostile

FULL = [table_1([]), *(paper_table(number, []) for number in TABLES)]
PAPER = [table1_layout(table_1([])), *(paper_layout(number, []) for number in TABLES)]
PAGES = [*FULL, *PAPER, *(hostile(name) for name in HOSTILE), hostile("[x] *")]
CURVE = Series(
    "a_b % & #1", "my data", tuple(CurvePoint(x, 0.9 - x / 10, 0.01, 3) for x in (0.0, 0.1, 1.0)), dataset="voc2007"
)


@pytest.mark.parametrize("notes", [False, True])
@pytest.mark.parametrize("table", PAGES, ids=lambda table: table.title[:12])
def test_environments_braces_and_cells_are_balanced(table: Table, notes: bool) -> None:
    text = latex([table], notes=notes)
    source = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    opened = re.findall(r"\\begin\{([\w*]+)\}", source)
    assert opened[1:] == ["tabular"]
    assert sorted(opened) == sorted(re.findall(r"\\end\{([\w*]+)\}", source))
    plain = source.replace(r"\{", "").replace(r"\}", "")
    assert plain.count("{") == plain.count("}")
    rows = [line for line in source.splitlines() if line.endswith(r"\\") and r"\multicolumn" not in line]
    (layout,) = re.findall(r"\\begin\{tabular\}\{(.*)\}$", source, re.MULTILINE)
    columns = len(re.sub(r">\{[^}]*\}p\{[^}]*\}", "p", layout))
    assert {line.replace(r"\&", "").count("&") for line in rows} == {columns - 1}
    assert source.isascii(), "every sign of ours has its command"
    assert source.count(r"\caption{") == source.count(r"\label{tab:") == 1
    assert not re.search(r"\\caption\{(Table|Figure) \d", source), "LaTeX numbers tables itself"
    assert r"\resizebox" not in source


def test_labels_of_the_papers_tables_are_distinct() -> None:
    labels = re.findall(r"\\label\{(.*?)\}", latex(PAPER) + lambda_figure(figure5_panels([])))
    assert len(labels) == len(set(labels)) == 9
    assert labels == [*re.findall(r"\\label\{(.*?)\}", latex(FULL)), "fig:lambda"]


def test_footnotes_are_comments_unless_asked_for() -> None:
    table = hostile("a_b")
    assert "\n% a_b\n" in latex([table])
    assert "\n% a_b\n" not in latex([table], notes=True)
    assert r"\footnotesize\raggedright a\_b\par" in latex([table], notes=True)


@pytest.mark.parametrize(
    ("characters", "document_columns", "name"),
    [(10, 2, "table"), (70, 2, "table*"), (130, 2, "sidewaystable*"), (60, 1, "table"), (110, 1, "sidewaystable")],
)
def test_a_table_has_the_environment_that_it_fits_into(characters: int, document_columns: int, name: str) -> None:
    columns = tuple(Column(f"c{k}", "9" * 10, "number") for k in range(characters // 10))
    text = latex([Table("t", columns, (Row(tuple(range(len(columns)))),))], columns=document_columns)
    assert f"\\begin{{{name}}}[t]" in text
    assert ("rotating" in text) == name.startswith("sideways")


def test_texts_of_a_table_that_is_too_wide_become_footnotes() -> None:
    columns = (Column("m", "Method", identity=True), *(Column(f"c{k}", "9" * 10, "number") for k in range(10)))
    table = Table("t", (*columns, Column("s", "Settings")), (Row(("csra", *range(10), "lr 0.1, epochs 5")),))
    text = latex([table])
    assert "Settings &" not in text
    assert "% row 1, csra: Settings: lr 0.1, epochs 5" in text


def test_own_rows_of_the_full_layout_have_no_citation() -> None:
    for table in FULL:
        keys = [column.key for column in table.columns]
        assert all(bool(row.cite) == (row.cells[keys.index("source")] == "paper") for row in table.rows)


def test_figure_5_has_the_peaks_of_the_paper_and_own_points() -> None:
    text = lambda_figure(figure5_panels([CURVE]))
    assert text.count(r"\begin{axis}") == text.count(r"\end{axis}") == 2
    peaks = re.findall(r"\\draw\[dashed, gray\] \(\{axis cs:([\d.]+),0\}", text)
    assert peaks == ["1", "0.1"]
    coco, voc = text.split(r"\end{axis}")[:2]
    assert "MS-COCO" in coco
    assert r"\addplot" not in coco
    assert re.findall(r"\(([\d.]+),([\d.]+)\) \+-", voc) == [("0", "90.00"), ("0.1", "89.00"), ("1", "80.00")]
    assert r"a\_b \% \& \#1" in voc
    assert any("pgfplots" in line for line in packages(text))


def test_curves_on_other_data_have_a_panel_of_their_own() -> None:
    other = Series("mine", "my data val", CURVE.points)
    panels = figure5_panels([other, CURVE])
    assert [panel.title for panel in panels] == ["MS-COCO 2014", "VOC2007", "my data val"]
    assert [panel.series for panel in panels] == [(), (CURVE,), (other,)]
    assert panels[2].peak is None


def test_the_bib_file_of_another_program_is_not_replaced(tmp_path: Path) -> None:
    body = latex([paper_layout(7, [])])
    tex, bib = write_latex(body, "", tmp_path / "t.tex")
    assert (tex.name, bib.name) == ("t.tex", "t.bib")
    assert write_latex(body, "", tex) == [tex, bib], "its own file is"
    bib.write_text("@misc{mine}", encoding="utf-8")
    tex.unlink()
    with pytest.raises(UsageError, match=r"t\.bib already exists and was not written by mlrec"):
        write_latex(body, "", tex)
    assert not tex.exists()
    assert write_latex(latex([hostile("x")]), "", tmp_path / "u.tex") == [tmp_path / "u.tex"]


def test_without_pdflatex_the_error_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latex_files.shutil, "which", lambda name: None)
    with pytest.raises(UsageError, match=r"pdflatex is not on PATH; install it .*, or write a \.tex file") as error:
        write_pdf(latex([paper_layout(7, [])]), "", tmp_path / "t.pdf")
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


needs_pdflatex = pytest.mark.skipif(
    shutil.which("pdflatex") is None, reason="no pdflatex, so nothing was compiled: " + latex_files.INSTALL
)


@needs_pdflatex
def test_all_tables_compile_and_none_is_wider_than_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logs = []
    run = latex_files.subprocess.run

    def logged(*arguments, **options):
        done = run(*arguments, **options)
        logs.append(done.stdout.decode("utf-8", "replace"))
        return done

    monkeypatch.setattr(latex_files.subprocess, "run", logged)
    figure = lambda_figure(figure5_panels([CURVE, Series("b", "my data", CURVE.points)]))
    body = "\n".join([latex(PAPER), latex([*FULL, *PAGES[-10:]], notes=True)])
    write_pdf(body, figure, tmp_path / "all.pdf")
    assert (tmp_path / "all.pdf").read_bytes().startswith(b"%PDF")
    assert len(logs) == 4
    assert bibliography(body)
    assert "undefined" not in logs[-1]
    wide = [float(points) for points in re.findall(r"Overfull \\hbox \(([\d.]+)pt too wide\)", logs[-1])]
    assert not wide


@needs_pdflatex
def test_a_letter_that_pdflatex_lacks_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"pdflatex failed .*漢.*lualatex"):
        write_pdf(latex([hostile("漢字")]), "", tmp_path / "t.pdf")
    assert not (tmp_path / "t.pdf").exists()


def test_the_figure_of_a_document_has_the_number_of_the_paper() -> None:
    text = document(latex(PAPER), lambda_figure(figure5_panels([CURVE])))
    assert text.index(r"\setcounter{figure}{4}") < text.index(r"\begin{figure")
    assert r"\setcounter" not in lambda_figure(figure5_panels([CURVE])), "to paste: numbered by the document"


def test_the_datasets_of_table_1_are_apart() -> None:
    text = latex([PAPER[0]])
    datasets = [r"\addlinespace" + "\n" + name for name in ("VOC2007", "WIDER-Attribute", "ImageNet")]
    assert all(text.count(start) == 1 for start in datasets)
    assert text.count(r"\addlinespace") == 3


def test_a_document_is_complete() -> None:
    text = document(latex(PAPER), bibliography="paper")
    assert text.startswith(r"\documentclass")
    assert text.endswith("\\end{document}\n")
    assert r"\bibliography{paper}" in text
    assert escape("✓") == r"$\checkmark$"
    assert r"\usepackage{amssymb}" in text
