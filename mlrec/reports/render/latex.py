"""Tables in LaTeX with booktabs rules."""

from __future__ import annotations

from collections.abc import Sequence

from mlrec.reports.render.table import Column, Row, Table, one_line

_SIGNS = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "|": r"\textbar{}",
    "<": r"\textless{}", ">": r"\textgreater{}",
    '"': r"\textquotedbl{}", "–": "--", "—": "---", "…": r"\ldots{}", "−": "$-$", "±": r"$\pm$", "×": r"$\times$",
    "·": r"$\cdot$", "λ": r"$\lambda$", "Δ": r"$\Delta$", "†": r"$\dagger$", "≥": r"$\geq$", "≤": r"$\leq$",
    "→": r"$\to$", "∞": r"$\infty$", "‡": r"$\ddagger$", "¶": r"\P{}",
}  # fmt: skip
_TABLE = str.maketrans(_SIGNS)


def latex(tables: Sequence[Table]) -> str:
    """Return one `table` environment per table, after a comment with the required packages."""
    header = "% \\usepackage[T1]{fontenc} \\usepackage{booktabs}\n"
    return header + "\n\n".join(_environment(table) for table in tables) + "\n"


def escape(text: str) -> str:
    r"""Escape the special characters of LaTeX.

    Example:
        >>> escape("50 %")
        '50 \\%'
    """
    return one_line(text).translate(_TABLE)


def _environment(table: Table) -> str:
    columns = table.columns
    layout = "".join("l" if column.kind == "text" else "r" for column in columns)
    lines = [r"\begin{table}", r"\centering", rf"\caption{{{escape(table.title)}}}", rf"\begin{{tabular}}{{{layout}}}"]
    lines += [r"\toprule", *_headings(table)]
    for title, rows in table.groups():
        lines.append(r"\midrule")
        if title:
            lines.append(rf"\multicolumn{{{len(columns)}}}{{l}}{{\emph{{{escape(title)}}}}} \\")
        lines += [" & ".join(_cell(row, k, column) for k, column in enumerate(columns)) + r" \\" for row in rows]
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [rf"\par\smallskip{{\footnotesize {escape(note)}\par}}" for note in table.footnotes]
    return "\n".join([*lines, r"\end{table}"])


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


def _cell(row: Row, k: int, column: Column) -> str:
    text = escape(column.show(row.cells[k]))
    if k in row.best:
        text = rf"\textbf{{{text}}}"
    if row.marks.get(k):
        text += rf"\textsuperscript{{{escape(row.marks[k])}}}"
    return text
