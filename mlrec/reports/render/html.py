"""Report as one self-contained HTML page: no network and no other file are needed.

Its tables can be sorted, its images can be enlarged, and its colors are light or dark.
"""

from __future__ import annotations

import base64
import functools
import importlib.resources
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlrec import __version__
from mlrec.reports.render.table import Table
from mlrec.utils.errors import escaped

if TYPE_CHECKING:
    from jinja2 import Template

FRONT = ("mAP", "sd", "seeds", "heads", "lam")  # columns that follow the first one


@dataclass(frozen=True)
class Picture:
    """An image of the page.

    Attributes:
        content: Content of the image file.
        media_type: Its media type, such as "image/svg+xml".
        caption: Text below it.
        folded: Whether it is shown only after a click on its caption.
    """

    content: bytes
    media_type: str
    caption: str = ""
    folded: bool = False

    @property
    def source(self) -> str:
        """The image as a data URL."""
        return f"data:{self.media_type};base64,{base64.b64encode(self.content).decode('ascii')}"


@dataclass(frozen=True)
class SampleCard:
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
class SummaryCard:
    """A number at the top of the page, with its title and a line of details."""

    title: str
    value: str
    detail: str


@dataclass(frozen=True)
class Section:
    """Cards below a heading; an empty title has no heading."""

    title: str
    cards: tuple[SampleCard, ...]


@dataclass(frozen=True)
class PageGallery:
    """Samples to look at.

    Attributes:
        title: Heading.
        why: Why these samples are shown, in words.
        sections: Cards.
        scale: Colour bar of the heat maps.
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
    summary: Sequence[SummaryCard] = (),
) -> str:
    """Return the HTML of a page.

    Every name is escaped, and the page's security policy blocks external content.

    Args:
        title: Title of the page.
        tables: Tables.
        figures: Figures below the tables.
        galleries: Galleries below the figures.
        facts: Settings of the runs at the end.
        summary: Numbers at the top.
    """
    return _template().render(
        title=title,
        tables=[_map_second(table) for table in tables],
        figures=figures,
        galleries=galleries,
        facts=facts,
        summary=summary,
        version=__version__,
    )


def _map_second(table: Table) -> Table:
    """Return the table with mAP next to the first column, which stays visible while the others scroll."""
    keys = [column.key for column in table.columns]
    front = [keys.index(key) for key in FRONT if key in keys[1:]]
    if "mAP" not in keys[1:]:
        return table
    rest = [k for k in range(1, len(keys)) if k not in front]
    return table.only([0, *front, *rest])


@functools.cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup, escape

    def breakable(text: str) -> Markup:
        """Escape a text that may be broken after each underscore, as names are long."""
        return escape(text).replace("_", Markup("_<wbr>"))

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["line"] = escaped
    environment.filters["breakable"] = breakable
    return environment.from_string(importlib.resources.files("mlrec.reports").joinpath("page.html").read_text("utf-8"))
