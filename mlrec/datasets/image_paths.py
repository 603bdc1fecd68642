"""Functions that list image files and find the files that annotations refer to.

A listing contains every file with an image extension in a folder and its subfolders at any depth. Hidden files and
folders are skipped. Links to folders are followed, but each real folder is visited only once, so circular links cannot
cause an endless loop. Listed paths contain the names of links, not of their targets, because YOLO labels are found by
replacing the folder name `images` in the path with `labels`.
"""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mlrec.datasets.images.decode import SUFFIXES
from mlrec.utils.errors import ValidationReport, counted
from mlrec.utils.names import normal

KINDS_SHOWN = 5


@dataclass
class Omitted:
    """Files and folders that were skipped when images were listed.

    Attributes:
        files: Visible files without an image extension.
        folders: Messages that state which folders were skipped and why.
    """

    files: list[Path] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)

    def describe(self) -> str:
        """Return one line with file counts by extension, or an empty string if nothing was skipped.

        Example:
            >>> Omitted([Path("a.txt"), Path("b.HEIC"), Path("c.txt")]).describe()
            '3 files have no image extension (2 .txt, 1 .heic), for example a.txt'
        """
        parts = []
        if self.files:
            kinds = Counter(file.suffix.lower() or "without extension" for file in self.files).most_common()
            shown = [f"{count} {kind}" for kind, count in kinds[:KINDS_SHOWN]]
            if len(kinds) > KINDS_SHOWN:
                shown.append("...")
            first = self.files[0]
            have = counted(len(self.files), "file has", "files have")
            parts.append(f"{have} no image extension ({', '.join(shown)}), for example {first}")
        return "; ".join([*parts, *self.folders])

    def warn(self, findings: ValidationReport) -> None:
        """Add one warning about all skipped files and folders."""
        text = self.describe()
        if text:
            findings.warn("some files in the image folders were skipped", text)


def is_image(name: str) -> bool:
    """Return whether a file name has an image extension and is not hidden.

    Example:
        >>> is_image("a/photo.JPE"), is_image("a/.photo.jpg"), is_image("photo.heic")
        (True, False, False)
    """
    return name.lower().endswith(SUFFIXES) and not Path(name).name.startswith(".")


def without_ending(name: str) -> str:
    """Remove the extension from a path.

    Example:
        >>> without_ending("a.b/c.d.jpg")
        'a.b/c.d'
    """
    return name.removesuffix(Path(name).suffix)


def files_below(folder: Path, omitted: Omitted) -> Iterator[Path]:
    """List all visible files below `folder`.

    For each folder, its own files are listed first, sorted by name, followed by the files in its subfolders.

    Args:
        folder: Top folder, which is listed even if it is hidden or a link.
        omitted: Object that collects the skipped folders.
    """
    listed = {os.path.realpath(folder)}

    def enters(path: Path) -> bool:
        real = os.path.realpath(path)
        # A link to a folder that contains the link is circular, even if that folder is above `folder`.
        inside = os.path.realpath(path.parent) + os.sep
        if real in listed or inside.startswith(real.rstrip(os.sep) + os.sep):
            omitted.folders.append(f"{path} links to a folder that is already listed")
            return False
        listed.add(real)
        return True

    def note(error: OSError) -> None:
        omitted.folders.append(f"{error.filename} cannot be read ({error.strerror})")

    for place, folders, files in os.walk(folder, followlinks=True, onerror=note):
        folders[:] = [name for name in sorted(folders) if name[0] != "." and enters(Path(place, name))]
        yield from (Path(place, name) for name in sorted(files) if name[0] != ".")


def image_files(folder: Path, omitted: Omitted) -> Iterator[Path]:
    """List all image files below `folder`; other files are added to `omitted`.

    Example:
        >>> list(image_files(Path("no such folder"), Omitted()))
        []
    """
    for file in files_below(folder, omitted):
        if is_image(file.name):
            yield file
        else:
            omitted.files.append(file)


def matching_images(pattern: str, omitted: Omitted) -> Iterator[Path]:
    """List the image files that match a glob, sorted by name.

    `**` matches any number of folders. Hidden folders are skipped and links are followed once, as in `image_files`.
    """
    if "**" not in Path(pattern).parts:
        matches: Iterator[Path] = map(Path, sorted(glob.glob(pattern)))  # noqa: PTH207 - Path.glob takes no absolute pattern
    else:
        matches = _matches_at_any_depth(Path(pattern), omitted)
    for path in matches:
        if path.is_dir():
            omitted.folders.append(f"{path} is a folder; pass the folder itself to use its images")
        elif is_image(path.name):
            yield path
        else:
            omitted.files.append(path)


def _matches_at_any_depth(pattern: Path, omitted: Omitted) -> Iterator[Path]:
    depth = pattern.parts.index("**")
    start = str(Path(*pattern.parts[:depth]))
    parts = pattern.parts[depth:]
    if parts[-1] == "**":
        parts = (*parts, "*")
    below = re.compile("".join(map(_as_regex, parts)).removesuffix("/"))
    folders = [start]
    if glob.has_magic(start):
        folders = sorted(glob.glob(start))  # noqa: PTH207
    for folder in folders:
        for file in files_below(Path(folder), omitted):
            if below.fullmatch(file.relative_to(folder).as_posix()):
                yield file


def _as_regex(part: str) -> str:
    """Return the regular expression for one part of a glob, including its trailing slash."""
    if part == "**":
        return "(?:[^/]+/)*"
    kinds = {"*": "[^/]*", "?": "[^/]"}
    pieces = re.split(r"(\*|\?|\[!?\]?[^\]]*\])", part)
    expression = ""
    for piece in pieces:
        if piece in kinds:
            expression += kinds[piece]
        elif piece.startswith("[") and piece.endswith("]"):
            expression += piece.replace("[!", "[^")
        else:
            expression += re.escape(piece)
    return expression + "/"


def unused_images(root: Path, used: Iterable[str]) -> list[str]:
    """List the image files below `root` that are not in `used`, as paths relative to `root`.

    If a file has two paths because of a link to a folder, and one path is in `used`, the file is not listed.
    """
    real: dict[str, str] = {}

    def identity(name: str) -> tuple[str, str]:
        folder, _, base = name.rpartition("/")
        if folder not in real:
            real[folder] = os.path.realpath(root / folder)
        return real[folder], base

    used_files = set(map(identity, used))
    names = (file.relative_to(root).as_posix() for file in image_files(root, Omitted()))
    return [name for name in names if identity(name) not in used_files]


class ImageIndex:
    """Index of the image files below a folder, used to find files by the names in annotations.

    Attributes:
        root: Folder of the images.
        names: Names of all image files below `root`.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.names = [file.relative_to(root).as_posix() for file in image_files(root, Omitted())]
        self._by_base: dict[str, list[str]] = {}
        for name in self.names:
            base = normal(name).rpartition("/")[2]
            for key in {base, without_ending(base), _lower_ending(base)}:
                self._by_base.setdefault(key, []).append(name)

    def find(self, name: str) -> list[str]:
        """Return the files that `name` may refer to.

        The list is empty if there is no such file, and contains multiple files if the name is ambiguous.

        Backslashes are treated as folder separators. Names that differ only in their Unicode form (NFC or NFD) are
        treated as equal. A name without an image extension matches any extension, and a name with an extension in
        another case (`a.jpg` and `a.JPG`) matches if no file has the exact name. A file in a subfolder is also found
        if its path ends with the name. An absolute path may be from another machine, so the longest ending of the path
        that matches a file is used.
        """
        parts = [part for part in normal(name).split("/") if part not in ("", ".")]
        absolute = name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name) is not None
        longest_ends = len(parts)
        if not absolute:
            longest_ends = min(1, len(parts))
        for start in range(longest_ends):
            tail = "/".join(parts[start:])
            files = [file for file in self._by_base.get(parts[-1], []) if _ends_with(normal(file), tail)]
            if not files:
                tail = _lower_ending(tail)
                others = self._by_base.get(_lower_ending(parts[-1]), [])
                files = [file for file in others if _ends_with(_lower_ending(normal(file)), tail)]
            same = [file for file in files if normal(file) == tail]
            same = same or [file for file in files if without_ending(normal(file)) == tail]
            if files:
                return same or files
        return []


def _lower_ending(name: str) -> str:
    return without_ending(name) + Path(name).suffix.lower()


def _ends_with(file: str, tail: str) -> bool:
    """Return whether the path `file` ends with `tail`, with or without its extension."""
    return any(f"/{path}".endswith(f"/{tail}") for path in (file, without_ending(file)))


def located(root: Path, names: Sequence[str], findings: ValidationReport) -> dict[str, str]:
    """Find the image files for names that are spelled differently in the annotation.

    If the spelling differs, a warning is reported. If a name matches multiple files, an error is reported. A name for
    which there is no file is skipped; an error is raised later when the file is opened.

    Returns:
        Mapping from names in the annotation to file names relative to `root`.
    """
    missing = [name for name in names if not os.path.lexists(root / name)]
    if not missing:
        return {}
    index = ImageIndex(root)
    renamed: dict[str, str] = {}
    for name in missing:
        files = index.find(name)
        if len(files) == 1:
            renamed[name] = files[0]
            findings.warn("names were matched to files with a different spelling", f"{name} matched {files[0]}")
        elif files:
            some = ", ".join(files[:3])
            findings.error(
                f"{root / name}", f"no such file, but multiple files have a similar name ({some}); write the full path"
            )
    return renamed


def name_below(root: Path, path: Path) -> str | None:
    """Return `path` relative to `root`, or None if `path` is not below `root`.

    Both paths may contain links.

    Example:
        >>> name_below(Path("/data/pets"), Path("/data/pets/images/../images/a.jpg"))
        'images/a.jpg'
    """
    plain = without_dots(path)
    if plain.is_relative_to(root):
        return plain.relative_to(root).as_posix()
    for folder in [plain, *plain.parents]:
        if _same(folder, root):
            return plain.relative_to(folder).as_posix()
    return None


def without_dots(path: Path) -> Path:
    """Remove `..` from a path. Links are not resolved, unless a `..` leads out of the linked folder."""
    if ".." not in path.parts:
        return path
    plain = Path(os.path.normpath(path.absolute()))
    if _same(plain, path) or not os.path.lexists(path):
        return plain
    return path.resolve()


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except (OSError, ValueError):
        return False
