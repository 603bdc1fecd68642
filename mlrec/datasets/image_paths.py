"""The one listing of image files, and the one way from a name in an annotation to the file that is there.

A listing takes every file with the ending of an image, in a folder and all folders below it. Hidden files and folders
are skipped. Links to folders are followed, each real folder once, so that links in a circle end. Names stay as given:
a link is not replaced by its target, because labels are looked up by the name (YOLO: `images` → `labels`).
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
from mlrec.datasets.names import normal
from mlrec.utils.errors import ValidationReport, printable

KINDS_SHOWN = 5


@dataclass
class Omitted:
    """What a listing did not take.

    Attributes:
        files: visible files without the ending of an image.
        folders: folders that were not entered: links to a folder that was listed already, unreadable folders.
    """

    files: list[Path] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)

    def describe(self) -> str:
        """One line with counts by ending, or an empty string if everything was taken.

        Example:
            >>> Omitted([Path("a.txt"), Path("b.HEIC"), Path("c.txt")]).describe()
            '3 files are not images by their ending (2 .txt, 1 .heic), first a.txt'
        """
        parts = []
        if self.files:
            kinds = Counter(file.suffix.lower() or "without ending" for file in self.files).most_common()
            shown = [f"{count} {printable(kind)}" for kind, count in kinds[:KINDS_SHOWN]]
            if len(kinds) > KINDS_SHOWN:
                shown.append("...")
            are = "file is not an image" if len(self.files) == 1 else "files are not images"
            first = printable(self.files[0])
            parts.append(f"{len(self.files):,} {are} by {'its' if len(self.files) == 1 else 'their'} ending "
                         f"({', '.join(shown)}), first {first}")  # fmt: skip
        return "; ".join([*parts, *self.folders])

    def warn(self, findings: ValidationReport) -> None:
        """Report what was not taken as one warning."""
        if text := self.describe():
            findings.warn("not everything in the folders of images was taken", text)


def is_image(name: str) -> bool:
    """Whether a file name has the ending of an image and is not hidden.

    Example:
        >>> is_image("a/photo.JPE"), is_image("a/.photo.jpg"), is_image("photo.heic")
        (True, False, False)
    """
    return name.lower().endswith(SUFFIXES) and not Path(name).name.startswith(".")


def without_ending(name: str) -> str:
    """A path without the ending of its file.

    Example:
        >>> without_ending("a.b/c.d.jpg")
        'a.b/c.d'
    """
    return name.removesuffix(Path(name).suffix)


def files_below(folder: Path, omitted: Omitted) -> Iterator[Path]:
    """All visible files below `folder`: those of a folder by name, then those of its subfolders.

    Args:
        folder: where to start. It is entered even if it is hidden or a link.
        omitted: collects the folders that were not entered.
    """
    listed = {os.path.realpath(folder)}

    def enters(path: Path) -> bool:
        real = os.path.realpath(path)
        # A link to a folder that contains itself is a circle, also if that folder lies above `folder`.
        inside = os.path.realpath(path.parent) + os.sep
        if real in listed or inside.startswith(real.rstrip(os.sep) + os.sep):
            omitted.folders.append(f"{printable(path)} leads to a folder that is listed already")
            return False
        listed.add(real)
        return True

    def note(error: OSError) -> None:
        omitted.folders.append(f"{printable(error.filename)} cannot be read ({error.strerror})")

    for place, folders, files in os.walk(folder, followlinks=True, onerror=note):
        folders[:] = [name for name in sorted(folders) if name[0] != "." and enters(Path(place, name))]
        yield from (Path(place, name) for name in sorted(files) if name[0] != ".")


def image_files(folder: Path, omitted: Omitted) -> Iterator[Path]:
    """All image files below `folder`; the other files go to `omitted`.

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
    """The image files that a glob matches, in the order of their names; `**` stands for any folders.

    The rules for `**` are those of `image_files`: hidden folders are skipped, links are followed once.
    """
    if "**" not in Path(pattern).parts:
        matches: Iterator[Path] = map(Path, sorted(glob.glob(pattern)))  # noqa: PTH207 - Path.glob takes no absolute pattern
    else:
        matches = _matches_at_any_depth(Path(pattern), omitted)
    for path in matches:
        if path.is_dir():
            omitted.folders.append(f"{printable(path)} is a folder; give the folder itself to take what is in it")
        elif is_image(path.name):
            yield path
        else:
            omitted.files.append(path)


def _matches_at_any_depth(pattern: Path, omitted: Omitted) -> Iterator[Path]:
    depth = pattern.parts.index("**")
    start = str(Path(*pattern.parts[:depth]))
    parts = pattern.parts[depth:] if pattern.parts[-1] != "**" else (*pattern.parts[depth:], "*")
    below = re.compile("".join(map(_as_regex, parts)).removesuffix("/"))
    folders = sorted(glob.glob(start)) if glob.has_magic(start) else [start]  # noqa: PTH207
    for folder in folders:
        for file in files_below(Path(folder), omitted):
            if below.fullmatch(file.relative_to(folder).as_posix()):
                yield file


def _as_regex(part: str) -> str:
    """The regular expression of one part of a glob and the slash behind it."""
    if part == "**":
        return "(?:[^/]+/)*"
    kinds = {"*": "[^/]*", "?": "[^/]"}
    pieces = re.split(r"(\*|\?|\[!?\]?[^\]]*\])", part)
    return "".join(kinds.get(p) or (p.replace("[!", "[^") if p.startswith("[") and p.endswith("]") else re.escape(p))
                   for p in pieces) + "/"  # fmt: skip


def unused_images(root: Path, used: Iterable[str]) -> list[str]:
    """Image files below `root` that are not among `used`, as names below `root`.

    A file that is reached by two names, because one of its folders is a link, counts as used under both.
    """
    real: dict[str, str] = {}

    def identity(name: str) -> tuple[str, str]:
        folder, _, base = name.rpartition("/")
        if folder not in real:
            real[folder] = os.path.realpath(root / folder)
        return real[folder], base

    taken = set(map(identity, used))
    names = (file.relative_to(root).as_posix() for file in image_files(root, Omitted()))
    return [name for name in names if identity(name) not in taken]


class ImageIndex:
    """The image files below a folder, found by names that are spelled otherwise than the file.

    Attributes:
        root: the folder.
        names: names of all image files below it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.names = [file.relative_to(root).as_posix() for file in image_files(root, Omitted())]
        self._by_base: dict[str, list[str]] = {}
        for name in self.names:
            base = normal(name).rpartition("/")[2]
            for key in {base, without_ending(base)}:
                self._by_base.setdefault(key, []).append(name)

    def find(self, name: str) -> list[str]:
        """The files that `name` can mean: one if it is clear, several if it is not, none.

        A backslash separates folders; NFC and NFD are one name; a name without the ending of an image means a file
        with any; a file in a deeper folder is found by the end of its path. Of an absolute path, which is one of
        another machine, the longest end is taken that is there.
        """
        parts = [part for part in normal(name).split("/") if part not in ("", ".")]
        absolute = name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name) is not None
        for start in range(len(parts) if absolute else min(1, len(parts))):
            tail = "/".join(parts[start:])
            found = [file for file in self._by_base.get(parts[-1], []) if _ends_with(normal(file), tail)]
            same = [file for file in found if normal(file) == tail]
            same = same or [file for file in found if without_ending(normal(file)) == tail]
            if found:
                return same or found
        return []


def _ends_with(file: str, tail: str) -> bool:
    """Whether the path `file` ends with `tail`, with or without its ending."""
    return any(f"/{path}".endswith(f"/{tail}") for path in (file, without_ending(file)))


def located(root: Path, names: Sequence[str], findings: ValidationReport) -> dict[str, str]:
    """The names of files that are called otherwise than in the annotation, by the name in the annotation.

    Names of files that are there are left out, as are names for which there is no file, or no single one: those are
    errors where the file is opened. Each other spelling is a warning.
    """
    missing = [name for name in names if not os.path.lexists(root / name)]
    if not missing:
        return {}
    index = ImageIndex(root)
    found: dict[str, str] = {}
    for name in missing:
        files = index.find(name)
        if len(files) == 1:
            found[name] = files[0]
            findings.warn("names were matched to files that are spelled otherwise", f"{name} is {files[0]}")
        elif files:
            some = ", ".join(map(printable, files[:3]))
            findings.error(f"{root / name}", f"no such file, and several end so ({some}); write the whole path")
    return found


def name_below(root: Path, path: Path) -> str | None:
    """The name of `path` below `root`, or None if it is elsewhere. Both may be spelled through links.

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
    """`path` without `..`. Links stay as given, unless a `..` leads back out of one."""
    if ".." not in path.parts:
        return path
    plain = Path(os.path.normpath(path.absolute()))
    return plain if _same(plain, path) or not os.path.lexists(path) else path.resolve()


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except (OSError, ValueError):
        return False
