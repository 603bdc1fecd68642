"""LaTeX code for Figure 5, drawn with pgfplots in the font of the document."""

from __future__ import annotations

from collections.abc import Sequence

from mlrec.reports.paper.figure5 import CurvePanel, Series
from mlrec.reports.render.latex import escape, packages

CAPTION = "mAP (%) against λ, one training run per value."
PEAKS = "Dashed: peak in the paper, which prints no values."
_STYLES = (
    "blue, mark=*",
    "orange, mark=square*",
    "teal, mark=triangle*",
    "violet, mark=diamond*",
    "red, mark=o",
    "black, mark=x",
)


def lambda_figure(panels: Sequence[CurvePanel]) -> str:
    r"""Return a LaTeX `figure` with one plot per panel, after a comment that lists the required packages.

    Args:
        panels: Panels, as returned by `figure5_panels`.
    """
    name, width, separator = "figure", 0.56, "%\n"
    if len(panels) > 2:  # two share a column of the page, more share its width
        name, width, separator = "figure*", 0.32, "\n"
    caption = CAPTION
    if any(panel.peak is not None for panel in panels):
        caption += f" {PEAKS}"
    plots = [_plot(panel, width) for panel in panels]
    lines = [rf"\begin{{{name}}}[t]", r"\centering", separator.join(plots)]
    lines += [rf"\caption{{{escape(caption)}}}", r"\label{fig:lambda}", rf"\end{{{name}}}"]
    text = "\n".join(lines)
    return f"% {' '.join(packages(text))}\n{text}\n"


def _plot(panel: CurvePanel, width: float) -> str:
    options = [
        rf"width={width:g}\linewidth, height=3.8cm",
        r"legend cell align=left",
        rf"title={{{escape(panel.title)}}}, xlabel={{$\lambda$}}, ylabel={{mAP, \%}}",
        r"title style={font=\scriptsize, align=center, text width=3.6cm}",
        r"label style={font=\scriptsize}, tick label style={font=\scriptsize}",
        r"legend style={font=\tiny, draw=none, fill=none, at={(0.5,-0.45)}, anchor=north}, legend columns=1",
    ]
    if not panel.series:  # an axis needs a range
        options.append(r"xmin=0, xmax=2, ymin=0, ymax=1, ytick=\empty")
    lines = [r"\begin{tikzpicture}", rf"\begin{{axis}}[{', '.join(options)}]"]
    for k, series in enumerate(panel.series):
        lines += _curve(series, _STYLES[k % len(_STYLES)])
    if panel.peak is not None:
        lines.append(
            rf"\draw[dashed, gray] ({{axis cs:{panel.peak:g},0}} |- {{rel axis cs:0,0}}) -- "
            rf"({{axis cs:{panel.peak:g},0}} |- {{rel axis cs:0,1}});"
        )
        lines.append(r"\addlegendimage{dashed, gray, no marks}")
        lines.append(rf"\addlegendentry{{paper: {escape(panel.peak_name)}}}")
    return "\n".join([*lines, r"\end{axis}", r"\end{tikzpicture}"])


def _curve(series: Series, style: str) -> list[str]:
    """Return the LaTeX code of a curve; with multiple seeds, error bars show one standard deviation."""
    bars = any(point.sd for point in series.points)
    if bars:
        style += r", error bars/.cd, y dir=both, y explicit"
    points = []
    for point in series.points:
        text = f"({point.x:g},{100 * point.mAP:.2f})"
        if bars:
            text += f" +- (0,{100 * (point.sd or 0):.2f})"
        points.append(text)
    return [
        rf"\addplot+[mark size=1.2pt, {style}] coordinates {{{' '.join(points)}}};",
        rf"\addlegendentry{{{escape(series.name)}}}",
    ]
