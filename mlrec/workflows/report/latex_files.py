"""LaTeX files: a `.tex` file with a `.bib` file, or a PDF compiled with pdflatex."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from mlrec.reports.paper.citations import BIB_HEADER, bibliography
from mlrec.reports.render.latex import document
from mlrec.utils.errors import RunError, UsageError
from mlrec.utils.files import write_bytes, write_text

SECONDS = 300  # for one run of pdflatex; the first one may make fonts
INSTALL = "apt-get install texlive-latex-extra texlive-pictures lmodern"


def write_latex(tables: str, figure: str, out: Path) -> list[Path]:
    """Write tables and a figure as a `.tex` file, and the citations as a `.bib` file next to it.

    If there are tables and a figure, the file is a complete document. Without tables or without a figure, the file is a
    fragment to include in a document.

    Args:
        tables: Tables, as returned by `latex`; "" for none.
        figure: LaTeX code of the figure; "" for none.
        out: File to write.

    Returns:
        Written files.

    Raises:
        UsageError: The `.bib` file exists and was not written by this function.
    """
    entries = bibliography(tables)
    bib = out.with_suffix(".bib")
    if entries and bib.exists() and not bib.read_text("utf-8", "replace").startswith(BIB_HEADER):
        raise UsageError(f"{bib} already exists and was not written by mlrec; choose a different name for {out}")
    text = tables + figure
    if tables and figure:
        text = document(tables, figure, bibliography=out.stem)
    write_text(out, text)
    if not entries:
        return [out]
    write_text(bib, entries)
    return [out, bib]


def write_pdf(tables: str, figure: str, out: Path) -> None:
    """Compile tables and a figure with pdflatex, in a temporary folder.

    Args:
        tables: Tables, as returned by `latex`; "" for none.
        figure: LaTeX code of the figure; "" for none.
        out: PDF file to write.

    Raises:
        UsageError: pdflatex is not installed.
        RunError: pdflatex failed.
    """
    compiler, bibtex = shutil.which("pdflatex"), shutil.which("bibtex")
    if compiler is None:
        raise UsageError(f"{out}: pdflatex is not on PATH; install it ({INSTALL}), or write a .tex file instead")
    entries = bibliography(tables)
    cited = ""
    if entries:
        cited = "tables"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_text(folder / "tables.tex", document(tables, figure, bibliography=cited))
        write_text(folder / "tables.bib", entries)
        compile_once = [compiler, "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "tables.tex"]
        _run(compile_once, folder, out)
        if entries and bibtex is not None:
            _run([bibtex, "tables"], folder, out)
            _run(compile_once, folder, out)
        _run(compile_once, folder, out)  # references are right after the last run
        write_bytes(out, (folder / "tables.pdf").read_bytes())


def _run(command: list[str], folder: Path, out: Path) -> None:
    try:
        done = subprocess.run(  # noqa: S603 - names in the text are escaped, and the command has no other input
            command, cwd=folder, capture_output=True, stdin=subprocess.DEVNULL, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise RunError(
            f"{out}: {Path(command[0]).name} did not finish within {SECONDS} s; write a .tex file instead"
        ) from error
    if done.returncode == 0:
        return
    log = done.stdout.decode("utf-8", "replace")
    reason = re.search(r"^! (.*)$", log, re.MULTILINE)
    text = log.strip()[-200:]
    if reason:
        text = reason.group(1)
    raise RunError(
        f"{out}: {Path(command[0]).name} failed ({text}); write a .tex file instead, and compile it with lualatex if "
        "names contain letters that pdflatex does not support"
    )
