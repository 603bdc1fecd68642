"""LaTeX tables with booktabs rules, for use in a paper or as a separate document.

`latex` converts any `Table` to LaTeX, including Table 4 of the paper, whose rows are selected in
`mlrec.reports.paper.tables`.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import replace

from mlrec.reports.render.table import Column, Row, Table
from mlrec.utils.errors import escaped

_SIGNS = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "|": r"\textbar{}",
    "<": r"\textless{}", ">": r"\textgreater{}",
    '"': r"\textquotedbl{}", "–": "--", "—": "---", "…": r"\ldots{}", "−": "$-$", "±": r"$\pm$", "×": r"$\times$",
    "·": r"$\cdot$", "λ": r"$\lambda$", "Δ": r"$\Delta$", "†": r"$\dagger$", "≥": r"$\geq$", "≤": r"$\leq$",
    "→": r"$\to$", "∞": r"$\infty$", "‡": r"$\ddagger$", "¶": r"\P{}", "✓": r"$\checkmark$",
}  # fmt: skip
_TABLE = str.maketrans(_SIGNS)

# Packages by what needs them.
_PACKAGES = (
    (r"\toprule", r"\usepackage{booktabs}"),
    (r"\arraybackslash", r"\usepackage{array}"),
    (r"\checkmark", r"\usepackage{amssymb}"),
    (r"\begin{sidewaystable", r"\usepackage{rotating}"),
    (r"\begin{axis}", r"\usepackage{pgfplots}\pgfplotsset{compat=1.17}"),
)
# Environments with their width in pt, narrowest first, and whether they are large enough for the smallest font.
# In the usual two-column style, a column has 237 pt and the page 496 pt; class article has one column of 345 pt.
_ROOM = {
    1: (("table", 345.0, False), ("sidewaystable", 598.0, True)),
    2: (("table", 237.0, False), ("table*", 496.0, False), ("sidewaystable*", 640.0, True)),
}
# Font sizes with pt per character of a table in Computer Modern.
_SIZES = ((r"\small", 4.9), (r"\footnotesize", 4.5), (r"\scriptsize", 4.1))
_SMALLEST = (r"\tiny", 3.4)
_GAP = 3.0  # pt on each side of a column
_LONGEST = 40  # characters of a cell; longer text is wrapped


def latex(tables: Sequence[Table], *, columns: int | None = None, notes: bool = False) -> str:
    r"""Return a LaTeX table environment for each table, after a comment that lists the required packages.

    Rows of published systems include a `\cite`. Footnotes are typeset if `notes` is set; otherwise, the footnotes are
    comments in the LaTeX source.

    Args:
        tables: Tables.
        columns: Number of document columns, 1 or 2. In a two-column document (default), a wide table spans both columns
            (`table*`). If a table is wider than the page, columns of text that do not identify the row are moved to
            footnotes; a table that is still too wide is rotated.
        notes: Whether to typeset the footnotes below the tables.
    """
    body = "\n\n".join(_environment(table, columns or 2, notes) for table in tables)
    return f"% {' '.join(packages(body))}\n{body}\n"


def document(tables: str, figure: str = "", *, bibliography: str = "") -> str:
    """Return a two-column LaTeX document that can be compiled.

    Args:
        tables: Tables, as returned by `latex`.
        figure: LaTeX code of Figure 5, added after the tables.
        bibliography: Name of the `.bib` file without extension; "" if there is none.
    """
    lines = [
        r"\documentclass[10pt,twocolumn]{article}",
        r"\usepackage[letterpaper,textwidth=6.875in,textheight=8.875in,columnsep=0.3125in]{geometry}",
        *packages(tables + figure),
        r"\IfFileExists{lmodern.sty}{\usepackage{lmodern}}{}",
        # as many tables on a page as there is room for
        r"\setcounter{topnumber}{9}\setcounter{dbltopnumber}{9}\setcounter{totalnumber}{9}",
        r"\renewcommand{\topfraction}{0.98}\renewcommand{\dbltopfraction}{0.98}",
        r"\renewcommand{\floatpagefraction}{0.8}\renewcommand{\dblfloatpagefraction}{0.8}",
        r"\makeatletter\setlength{\@fptop}{0pt}\setlength{\@fpsep}{16pt}\setlength{\@fpbot}{0pt plus 1fil}",
        r"\setlength{\@dblfptop}{0pt}\setlength{\@dblfpsep}{16pt}\setlength{\@dblfpbot}{0pt plus 1fil}\makeatother",
        r"\setlength{\belowcaptionskip}{4pt}",
        r"\begin{document}",
        tables,
        r"\clearpage",  # otherwise a narrow figure comes before the wide tables
    ]
    if figure:
        lines += [r"\setcounter{figure}{4}", figure]
    if bibliography:
        lines += [r"\bibliographystyle{plain}", rf"\bibliography{{{bibliography}}}"]
    return "\n".join([*lines, r"\end{document}"]) + "\n"


def packages(body: str) -> list[str]:
    """Return the `usepackage` lines required by tables and figures."""
    return [r"\usepackage[T1]{fontenc}", *(line for needed_by, line in _PACKAGES if needed_by in body)]


def escape(text: str) -> str:
    r"""Escape the special characters of LaTeX.

    Example:
        >>> escape("50%")
        '50\\%'
    """
    return escaped(text).translate(_TABLE)


def _environment(table: Table, document_columns: int, notes: bool) -> str:
    name, size = _fitted(table, document_columns)
    if name.startswith("sideways"):
        table = _without_texts(table)
        name, size = _fitted(table, document_columns)
    lines = [
        rf"\begin{{{name}}}[t]",
        r"\centering",
        rf"\caption{{{escape(table.caption or table.title)}}}",
        rf"\label{{tab:{table.label or slug(table.title)}}}",
        rf"{size}\setlength{{\tabcolsep}}{{{_GAP:g}pt}}",
        rf"\begin{{tabular}}{{{''.join(_specification(table, k) for k in range(len(table.columns)))}}}",
        r"\toprule",
        *_headings(table),
    ]
    for title, rows in table.groups():
        lines += [r"\midrule", *_group_heading(table, title)]
        for k, row in enumerate(rows):
            # An empty first cell repeats the one above it, as the dataset of Table 1 does.
            if k and table.columns[0].absent == "" and row.cells[0] is not None:
                lines.append(r"\addlinespace")
            lines.append(_row(row, table.columns, notes))
    lines += [r"\bottomrule", r"\end{tabular}"]
    for note in table.footnotes:
        if notes:
            lines.append(rf"\par\smallskip{{\footnotesize\raggedright {escape(note)}\par}}")
        else:
            lines.append(f"% {escaped(note)}")
    return "\n".join([*lines, rf"\end{{{name}}}"])


def slug(title: str) -> str:
    """Convert a title to a label name of lowercase words and digits, joined by hyphens.

    Example:
        >>> slug("AP by label: toy test")
        'ap-by-label-toy-test'
    """
    return "-".join(re.findall(r"[a-z0-9]+", title.lower())) or "table"


def _fitted(table: Table, document_columns: int) -> tuple[str, str]:
    """Return the LaTeX environment and the largest font size for which a table fits on the page."""
    characters = sum(_widths(table))
    gaps = 2 * _GAP * len(table.columns)
    for name, width, is_last in _ROOM[document_columns]:
        sizes = [*_SIZES]
        if is_last:
            sizes.append(_SMALLEST)
        for size, per_character in sizes:
            if characters * per_character + gaps <= width:
                return name, size
    return name, _SMALLEST[0]


def _without_texts(table: Table) -> Table:
    """Replace text columns, such as the settings and the run name, with one footnote per row."""
    stay = {column.key for column in table.columns if column.identity or column.kind != "text"} | {"source"}
    moved = [k for k, column in enumerate(table.columns) if k and column.key not in stay]
    notes = []
    for number, row in enumerate(table.rows, start=1):
        texts = [f"{table.columns[k].title}: {row.cells[k]}" for k in moved if row.cells[k] is not None]
        if texts:
            notes.append(f"row {number}, {row.cells[0]}: {'; '.join(texts)}")
    kept = [k for k in range(len(table.columns)) if k not in moved]
    return replace(table.only(kept), footnotes=(*table.footnotes, *notes))


def _widths(table: Table) -> list[int]:
    """Return the width of each column in characters, after long text is wrapped."""
    widths = []
    for k, column in enumerate(table.columns):
        cells = [len(column.show(row.cells[k])) + (5 if k == 0 and row.cite else 0) for row in table.rows]
        widths.append(min(_LONGEST, max([len(column.title), *cells])))
    return widths


def _specification(table: Table, k: int) -> str:
    """Return the `tabular` column type; a column with long text has a fixed width and wraps the text."""
    column = table.columns[k]
    if column.kind != "text":
        return "r"
    if max((len(column.show(row.cells[k])) for row in table.rows), default=0) > _LONGEST:
        return rf">{{\raggedright\arraybackslash}}p{{{_LONGEST // 2}em}}"
    if column.centred:
        return "c"
    return "l"


def _group_heading(table: Table, title: str) -> list[str]:
    """Return a group heading across all columns; a long heading is broken into multiple lines."""
    if not title:
        return []
    room = max(20, sum(_widths(table)) + len(table.columns) - 4)
    lines = textwrap.wrap(escaped(title), room) or [""]
    return [rf"\multicolumn{{{len(table.columns)}}}{{l}}{{\emph{{{escape(line)}}}}} \\" for line in lines]


def _headings(table: Table) -> list[str]:
    titles = " & ".join(escape(column.title) for column in table.columns) + r" \\"
    if not any(column.block for column in table.columns):
        return [titles]
    cells, rules = [], []
    for block, start, end in table.blocks():
        if block:
            cells.append(rf"\multicolumn{{{end - start}}}{{c}}{{{escape(block)}}}")
            rules.append(rf"\cmidrule(lr){{{start + 1}-{end}}}")
        else:
            cells.append("")
    return [" & ".join(cells) + r" \\", " ".join(rules), titles]


def _row(row: Row, columns: Sequence[Column], notes: bool) -> str:
    cells = [_cell(row, k, column, notes) for k, column in enumerate(columns)]
    if row.cite:
        named = next((k for k, column in enumerate(columns) if column.identity), 0)
        cells[named] += rf"~\cite{{{row.cite}}}"
    text = " & ".join(cells) + r" \\"
    if text.startswith(("[", "*")):  # after the end of a row these would be its optional argument
        return "{}" + text
    return text


def _cell(row: Row, k: int, column: Column, notes: bool) -> str:
    text = escape(column.show(row.cells[k]))
    if k in row.best:
        text = rf"\textbf{{{text}}}"
    if notes and row.marks.get(k):
        text += rf"\textsuperscript{{{escape(row.marks[k])}}}"
    return text
