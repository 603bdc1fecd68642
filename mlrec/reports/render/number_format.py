"""How a number is printed: the one place for percent, decimals, signs and what is undefined."""

from __future__ import annotations

from typing import Literal

from mlrec.utils.errors import printable

Cell = float | int | str | None
Kind = Literal["text", "percent", "points", "number", "mean", "count", "p", "seconds"]

UNDEFINED = "–"
MINUS = "−"


def shown(value: float | int | str, kind: Kind) -> str:
    """`value` as people read it.

    Fractions become percent with one decimal, as the paper prints them; differences ("points") carry their sign; a
    "mean" has two decimals; text is made safe for one line of a terminal.
    """
    if isinstance(value, str):
        return printable(value)
    if kind == "percent":
        return percent(value)
    if kind == "points":
        return _signed(100 * value)
    if kind == "count":
        return f"{value:,.0f}"
    if kind == "mean":
        return f"{value:,.2f}"
    if kind == "p":
        return "<0.001" if value < 0.001 else f"{value:.3f}"
    if kind == "seconds":
        return f"{value:,.1f}"
    return f"{value:g}".replace("-", MINUS)


def percent(fraction: float | None) -> str:
    """A fraction as percent with one decimal: 0.9428 is `94.3`."""
    return UNDEFINED if fraction is None else f"{100 * fraction:.1f}".replace("-", MINUS)


def one_line(text: str) -> str:
    """`text` in full with its control characters escaped: it may hold names from files of strangers."""
    return "".join(char if char.isprintable() else printable(char) for char in text)


def _signed(points: float) -> str:
    text = f"{points:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", MINUS)
