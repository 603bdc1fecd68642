"""A report as one HTML page that needs nothing else: no network, no other file; it sorts, and it prints well."""

from __future__ import annotations

import base64
import functools
import importlib.resources
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlrec import __version__
from mlrec.reports.render.table import Table, one_line

if TYPE_CHECKING:
    from jinja2 import Template


@dataclass(frozen=True)
class Picture:
    """An image in the page: its bytes and their type ("image/svg+xml"), and what stands below it."""

    content: bytes
    media_type: str
    caption: str = ""

    @property
    def source(self) -> str:
        """The image itself as an address."""
        return f"data:{self.media_type};base64,{base64.b64encode(self.content).decode('ascii')}"


@dataclass(frozen=True)
class SummaryCard:
    """A sample in a gallery.

    Attributes:
        name: its id.
        lines: about it.
        picture: its thumbnail; None where the file is not at hand.
        maps: what a model sees in it, each with its caption.
    """

    name: str
    lines: tuple[str, ...] = ()
    picture: Picture | None = None
    maps: tuple[Picture, ...] = ()


@dataclass(frozen=True)
class Section:
    """Cards below a heading, or below none."""

    title: str
    cards: tuple[SummaryCard, ...]


@dataclass(frozen=True)
class PageGallery:
    """Samples worth looking at, under a heading and a sentence that says why; with the scale of their maps."""

    title: str
    why: str
    sections: tuple[Section, ...]
    scale: Picture | None = None


@dataclass(frozen=True)
class Facts:
    """What a run was: keys and values under a heading, folded away until asked for."""

    title: str
    values: Mapping[str, str]


def page(
    title: str,
    tables: Sequence[Table],
    figures: Sequence[Picture] = (),
    galleries: Sequence[PageGallery] = (),
    facts: Sequence[Facts] = (),
) -> str:
    """The page as text. Every name is escaped; the page's own policy forbids anything from elsewhere."""
    return _template().render(
        title=title, tables=tables, figures=figures, galleries=galleries, facts=facts, version=__version__
    )


@functools.cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["line"] = one_line
    return environment.from_string(importlib.resources.files("mlrec.reports").joinpath("page.html").read_text("utf-8"))
