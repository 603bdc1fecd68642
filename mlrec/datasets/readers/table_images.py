"""From the names of images in a table to names below the root of the images."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote

from mlrec.datasets.image_paths import ImageIndex
from mlrec.datasets.names import image_name, is_usual, normal
from mlrec.datasets.readers.csv_file import TextTable
from mlrec.utils.errors import ValidationReport
from mlrec.utils.texts import Texts

_ABSOLUTE = re.compile(r"[/\\]|[A-Za-z]:|[A-Za-z][A-Za-z0-9+.-]*://")
_UPLOAD = re.compile(r"[0-9a-f]{8}-(.+)")  # what Label Studio puts before the name of an uploaded file
QUERY = "?d="  # Label Studio: /data/local-files/?d=images/a.jpg
PROBED = 100  # rows that decide which folder names are relative to


class TableImages:
    """The images that tables name, below one root."""

    def __init__(self, root: Path, findings: ValidationReport) -> None:
        """Remember the folder of the images and where to report names that cannot be used."""
        self.root = root
        self._findings = findings
        self._matched: dict[str, str] = {}  # file by its name in the table, if that is absolute
        self._meant: dict[str, str] = {}  # and the other way round

    @cached_property
    def _index(self) -> ImageIndex:
        return ImageIndex(self.root)

    def exists(self, cell: str) -> bool:
        """Whether a cell is the name of one image below the root."""
        return len(self._index.find(_plain(cell))) == 1

    def names(self, table: TextTable, column: int) -> Texts:
        """The image of each row, as a name below the root.

        Relative names are below the root or below the folder of the table. A first folder that is the root's own name
        is left out. Absolute names, those of another machine, mean the one image that ends so. Names that differ from
        the file in their ending, their folders or by backslashes are matched when images are looked for.
        """
        cells = table.column(column)
        move = self._move([_plain(cell.strip()) for cell in cells[:PROBED]], table.path.parent)
        return Texts.of(self._checked(cell.strip(), move, table, row, column) for row, cell in enumerate(cells))

    def _checked(self, cell: str, move: Callable[[str], str], table: TextTable, row: int, column: int) -> str:
        if is_usual(cell) and move is _unchanged:
            return cell  # without the text of the place, which is most of the time
        if QUERY in cell or _ABSOLUTE.match(cell):
            return self._elsewhere(cell, _plain(cell), table.where(row, column))
        return image_name(move(cell), table.where(row, column), self._findings)

    def _move(self, names: Sequence[str], folder: Path) -> Callable[[str], str]:
        """What names are changed by, so that most of those probed are there; unchanged if none are."""
        moves = [_unchanged]
        if folder != self.root and folder.is_relative_to(self.root):
            below = folder.relative_to(self.root).as_posix()
            moves.append(lambda name: f"{below}/{name}" if name else name)
        own = f"{self.root.name}/"
        if any(name.startswith(own) for name in names):
            moves.append(lambda name: name.removeprefix(own))
        if len(moves) == 1:
            return _unchanged
        counts = [sum(os.path.lexists(self.root / move(name)) for name in names if name) for move in moves]
        return moves[counts.index(max(counts))]

    def _elsewhere(self, cell: str, name: str, where: str) -> str:
        """The image below the root that an absolute path, or one of Label Studio's, means."""
        if cell in self._matched:
            return self._matched[cell]
        inside = _below(self.root, name)
        if inside:
            files = [inside]
        else:
            files = self._index.find("/" + name)
        if not files:
            folder, _, base = name.rpartition("/")
            upload = _UPLOAD.fullmatch(base)
            if upload:
                files = self._index.find(f"/{folder}/{upload[1]}")
        if len(files) != 1:
            what = f"several images below {self.root} end so" if files else (f"no image below {self.root} ends so")
            self._findings.error(where, f"'{cell}' is absolute, and {what}; give the folder with --images")
            return name
        other = self._meant.setdefault(files[0], cell)
        if other != cell:
            self._findings.error(where, f"'{cell}' and '{other}' both mean the file {files[0]}")
        self._matched[cell] = files[0]
        if not inside:
            self._findings.warn("absolute paths were matched to images by their last parts", f"{cell} is {files[0]}")
        return files[0]


def _unchanged(name: str) -> str:
    return name


def _plain(cell: str) -> str:
    """A cell as a path with `/`: the path of a URL; what follows `?d=` in a local file of Label Studio."""
    if QUERY in cell:
        return normal(unquote(cell.partition(QUERY)[2]))
    if "://" in cell:
        return unquote(cell.partition("://")[2].partition("?")[0])
    return normal(cell) if "\\" in cell else cell


def _below(root: Path, name: str) -> str | None:
    """The name below the root of an absolute path to it, if such a file is there."""
    path = Path(name)
    if ".." not in path.parts and path.is_absolute() and path.is_relative_to(root) and os.path.lexists(path):
        return path.relative_to(root).as_posix()
    return None
