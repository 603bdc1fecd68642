"""Reports as HTML pages that contain all images and styles and do not need network access.

Readers can sort tables and enlarge images. The pages have a light and a dark theme.
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
    """Image on an HTML page, with a caption.

    Attributes:
        content: Content of the image file.
        media_type: Media type, such as "image/svg+xml".
        caption: Text below the image.
        folded: Whether the image is shown only after a click on the caption.
    """

    content: bytes
    media_type: str
    caption: str = ""
    folded: bool = False

    @property
    def source(self) -> str:
        """Image encoded as a data URL."""
        return f"data:{self.media_type};base64,{base64.b64encode(self.content).decode('ascii')}"


@dataclass(frozen=True)
class SampleCard:
    """Sample in a gallery, with its image and heat maps.

    Attributes:
        name: Id of the sample.
        lines: Lines of text about the sample.
        picture: Thumbnail; None if the image file is not available.
        maps: Heat maps with captions.
    """

    name: str
    lines: tuple[str, ...] = ()
    picture: Picture | None = None
    maps: tuple[Picture, ...] = ()


@dataclass(frozen=True)
class SummaryCard:
    """Key number at the top of the page, with a title and one line of details."""

    title: str
    value: str
    detail: str


@dataclass(frozen=True)
class Section:
    """Part of a gallery, with a heading and cards; an empty title omits the heading."""

    title: str
    cards: tuple[SampleCard, ...]


@dataclass(frozen=True)
class PageGallery:
    """Gallery of samples for the reader to inspect.

    Attributes:
        title: Heading.
        why: Text that explains why these samples are shown.
        sections: Sections of the gallery, each with cards.
        scale: Color bar of the heat maps.
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
    """Return the HTML text of a report page.

    All names are escaped, and the page's security policy blocks external content.

    Args:
        title: Title of the page.
        tables: Tables to show.
        figures: Figures below the tables.
        galleries: Galleries below the figures.
        facts: Settings of the runs, shown at the end of the page.
        summary: Key numbers, shown at the top of the page.
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
    """Return the table with mAP and the other columns in `FRONT` moved behind the first column."""
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
        """Escape text and allow line breaks after underscores, because names can be long."""
        return escape(text).replace("_", Markup("_<wbr>"))

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["line"] = escaped
    environment.filters["breakable"] = breakable
    return environment.from_string(importlib.resources.files("mlrec.reports").joinpath("page.html").read_text("utf-8"))
