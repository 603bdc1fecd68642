"""Report as one self-contained HTML page: no network and no other file are needed.

Its tables can be sorted.
"""

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
    """An image of the page.

    Attributes:
        content: Content of the image file.
        media_type: Its media type, such as "image/svg+xml".
        caption: Text below it.
    """

    content: bytes
    media_type: str
    caption: str = ""

    @property
    def source(self) -> str:
        """The image as a data URL."""
        return f"data:{self.media_type};base64,{base64.b64encode(self.content).decode('ascii')}"


@dataclass(frozen=True)
class SummaryCard:
    """A sample in a gallery.

    Attributes:
        name: Id of the sample.
        lines: Lines of text about it.
        picture: Thumbnail; None if the image file is not available.
        maps: Heat maps with captions.
    """

    name: str
    lines: tuple[str, ...] = ()
    picture: Picture | None = None
    maps: tuple[Picture, ...] = ()


@dataclass(frozen=True)
class Section:
    """Cards below a heading; an empty title has no heading."""

    title: str
    cards: tuple[SummaryCard, ...]


@dataclass(frozen=True)
class PageGallery:
    """Samples to look at.

    Attributes:
        title: Heading.
        why: Why these samples are shown, in words.
        sections: Cards.
        scale: Colour scale of the heat maps.
    """

    title: str
    why: str
    sections: tuple[Section, ...]
    scale: Picture | None = None


@dataclass(frozen=True)
class Facts:
    """Settings and environment of a run, hidden until the heading is clicked."""

    title: str
    values: Mapping[str, str]


def page(
    title: str,
    tables: Sequence[Table],
    figures: Sequence[Picture] = (),
    galleries: Sequence[PageGallery] = (),
    facts: Sequence[Facts] = (),
) -> str:
    """Return the HTML of a page.

    Every name is escaped, and the page's security policy blocks external content.

    Args:
        title: Title of the page.
        tables: Tables.
        figures: Figures below the tables.
        galleries: Galleries below the figures.
        facts: Settings of the runs at the end.
    """
    return _template().render(
        title=title, tables=tables, figures=figures, galleries=galleries, facts=facts, version=__version__
    )


@functools.cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["line"] = one_line
    return environment.from_string(importlib.resources.files("mlrec.reports").joinpath("page.html").read_text("utf-8"))
