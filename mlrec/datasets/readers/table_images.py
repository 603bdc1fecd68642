"""Conversion of image names in a table to paths relative to the image root."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote

from mlrec.datasets.image_paths import ImageIndex
from mlrec.datasets.readers.csv_file import TextTable
from mlrec.datasets.split_names import VOCABULARY, known_split
from mlrec.utils.errors import ValidationReport, counted
from mlrec.utils.names import image_name, is_usual, normal
from mlrec.utils.texts import Texts

_ABSOLUTE = re.compile(r"[/\\]|[A-Za-z]:|[A-Za-z][A-Za-z0-9+.-]*://")
_UPLOAD = re.compile(r"[0-9a-f]{8}-(.+)")  # prefix that Label Studio adds to the names of uploaded files
QUERY = "?d="  # Label Studio: /data/local-files/?d=images/a.jpg
PROBED = 100  # rows checked to find the folder that names are relative to


class TableImages:
    """Images that are listed in tables and are below one root folder."""

    def __init__(self, root: Path, findings: ValidationReport) -> None:
        """Store the folder of the images and the collector of invalid names."""
        self.root = root
        self._findings = findings
        self._matched: dict[str, str] = {}  # file by name in the table, for absolute names
        self._meant: dict[str, str] = {}  # the reverse mapping

    @cached_property
    def _index(self) -> ImageIndex:
        return ImageIndex(self.root)

    def exists(self, cell: str) -> bool:
        """Return whether exactly one image below the root matches the name in a cell."""
        return len(self._index.find(_plain(cell))) == 1

    def names(self, table: TextTable, column: int, split: str | None = None) -> Texts:
        """Return the image of each row, as a path relative to the root.

        A name may be relative to the root, to the folder of the table, or to a folder named after the `split` of the
        table. If the names start with the name of the root folder, this prefix is removed if more files are found
        without it. For an absolute name from another machine, the image is found by the end of the path. Names with
        another extension, with missing folders or with backslashes are matched later, when image files are searched.
        """
        cells = table.column(column)
        move = self._move([_plain(cell.strip()) for cell in cells[:PROBED]], table.path.parent, split)
        return Texts.of(self._checked(cell.strip(), move, table, row, column) for row, cell in enumerate(cells))

    def _checked(self, cell: str, move: Callable[[str], str], table: TextTable, row: int, column: int) -> str:
        if is_usual(cell) and move is _unchanged:
            return cell  # skip formatting the position, which takes most of the time
        if QUERY in cell or _ABSOLUTE.match(cell):
            return self._elsewhere(cell, _plain(cell), table.where(row, column))
        return image_name(move(cell), table.where(row, column), self._findings)

    def _move(self, names: Sequence[str], folder: Path, split: str | None) -> Callable[[str], str]:
        """Return the name change with which most of the probed files exist; no change if none exist."""
        moves: list[Callable[[str], str]] = [_unchanged]
        if folder != self.root and folder.is_relative_to(self.root):
            moves.append(_inside(folder.relative_to(self.root).as_posix()))
        moves += [_inside(place) for place in self._split_folders(split)]
        own = f"{self.root.name}/"
        if any(name.startswith(own) for name in names):
            moves.append(lambda name: name.removeprefix(own))
        if len(moves) == 1:
            return _unchanged
        counts = [sum(os.path.lexists(self.root / move(name)) for name in names if name) for move in moves]
        return moves[counts.index(max(counts))]

    def _split_folders(self, split: str | None) -> list[str]:
        """Return the folders below the root, or below a folder in the root, that are named after a split."""
        if split is None:
            return []
        spellings = [name for name, known in VOCABULARY.items() if known == known_split(split)]
        with os.scandir(self.root) as entries:
            parents = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
        names = [name for own in spellings for name in (own, own.capitalize(), own.upper())]
        folders = [*names, *(f"{parent}/{name}" for parent in parents for name in names)]
        folders = [folder for folder in folders if (self.root / folder).is_dir()]
        return [*folders, *(f"{folder}/images" for folder in folders if (self.root / folder / "images").is_dir())]

    def _elsewhere(self, cell: str, name: str, where: str) -> str:
        """Return the image below the root for an absolute path or a Label Studio path."""
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
            self._findings.error(
                where,
                f"'{cell}' is an absolute path that matches {counted(len(files), 'image')} below {self.root}; "
                "specify the image folder with --images",
            )
            return name
        other = self._meant.setdefault(files[0], cell)
        if other != cell:
            self._findings.error(
                where, f"'{cell}' and '{other}' both refer to the file {files[0]}; keep only one of them"
            )
        self._matched[cell] = files[0]
        if not inside:
            self._findings.warn(
                "absolute paths were matched to images by their last components", f"{cell} matched {files[0]}"
            )
        return files[0]


def _unchanged(name: str) -> str:
    return name


def _inside(folder: str) -> Callable[[str], str]:
    return lambda name: f"{folder}/{name}" if name else name


def _plain(cell: str) -> str:
    """Return a cell as a path with `/`.

    The result is the path of a URL, or the part after `?d=` in a Label Studio local file.
    """
    if QUERY in cell:
        return normal(unquote(cell.partition(QUERY)[2]))
    if "://" in cell:
        return unquote(cell.partition("://")[2].partition("?")[0])
    return normal(cell) if "\\" in cell else cell


def _below(root: Path, name: str) -> str | None:
    """Return an absolute path relative to the root, or None if the file does not exist below the root."""
    path = Path(name)
    if ".." not in path.parts and path.is_absolute() and path.is_relative_to(root) and os.path.lexists(path):
        return path.relative_to(root).as_posix()
    return None
