"""`Texts`: a sequence of strings stored in two arrays.

The module also contains functions that compare millions of strings without a Python set.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from mlrec.utils import ragged

ENCODING, ERRORS = "utf-8", "surrogatepass"  # JSON may contain lone surrogates; they are reported when names are
BLOCK = 4096  # texts decoded at a time


class Texts(Sequence[str]):
    """N strings stored as UTF-8 in one buffer; compares equal to a tuple or list with the same strings.

    Attributes:
        data: (B,) uint8 array of the concatenated strings.
        offsets: (N + 1,) int64 array with the start of each string in `data`, and the end of the last string.

    Example:
        >>> names = Texts.of(["a.jpg", "sub/b.jpg"])
        >>> names[1], len(names), names == ("a.jpg", "sub/b.jpg")
        ('sub/b.jpg', 2, True)
    """

    __slots__ = ("data", "offsets")

    def __init__(self, data: NDArray[np.uint8], offsets: NDArray[np.int64]) -> None:
        self.data, self.offsets = data, offsets

    @classmethod
    def of(cls, texts: Iterable[str]) -> Texts:
        """Create `Texts` from any iterable of strings."""
        if isinstance(texts, Texts):
            return texts
        builder = TextsBuilder()
        for block in batched(texts, BLOCK):
            builder.extend(block)
        return builder.texts()

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> Texts: ...
    def __getitem__(self, place: int | slice) -> str | Texts:
        if isinstance(place, slice):
            return self.take(np.arange(len(self))[place])
        index = range(len(self))[place]
        text = self.data[self.offsets[index] : self.offsets[index + 1]].tobytes()
        return text.decode(ENCODING, ERRORS)

    def __iter__(self) -> Iterator[str]:
        for begin in range(0, len(self), BLOCK):
            yield from self._block(begin)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Texts):
            return np.array_equal(self.offsets, other.offsets) and np.array_equal(self.data, other.data)
        if isinstance(other, tuple | list):
            return len(self) == len(other) and all(mine == its for mine, its in zip(self, other, strict=True))
        return NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        shown = [repr(text) for text in self[:3]]
        if len(self) > 3:
            shown.append("...")
        return f"Texts({len(self):,}: {', '.join(shown)})"

    def take(self, places: NDArray[np.integer[Any]]) -> Texts:
        """Return the strings at the given positions, in the given order."""
        return Texts(*ragged.taken(self.data, self.offsets, places))

    def _block(self, begin: int) -> list[str]:
        ends = self.offsets[begin : begin + BLOCK + 1]
        places = (ends - ends[0]).tolist()
        content = self.data[ends[0] : ends[-1]].tobytes()
        if content.isascii():  # byte positions are equal to character positions
            text = content.decode("ascii")
            return [text[start:end] for start, end in itertools.pairwise(places)]
        return [content[start:end].decode(ENCODING, ERRORS) for start, end in itertools.pairwise(places)]


def batched(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    """Iterate over lists of `size` strings; the last list may be shorter."""
    rest = iter(texts)
    while block := list(itertools.islice(rest, size)):
        yield block


class TextsBuilder:
    """Builder of `Texts` from blocks of strings.

    Strings are added in blocks, so only one block of Python strings is in memory at a time.
    """

    def __init__(self) -> None:
        self._parts: list[tuple[NDArray[np.uint8], NDArray[np.int64]]] = []

    def extend(self, texts: Sequence[str]) -> None:
        """Add a block of strings."""
        joined = "".join(texts)
        content = joined.encode(ENCODING, ERRORS)
        if len(content) == len(joined):
            lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        else:
            lengths = np.array([len(text.encode(ENCODING, ERRORS)) for text in texts], dtype=np.int64)
        self._parts.append((np.frombuffer(content, np.uint8), ragged.offsets_of(lengths)))

    def texts(self) -> Texts:
        """Return all added strings."""
        return Texts(*ragged.joined(self._parts, np.uint8))


def joined(parts: Sequence[Sequence[str]]) -> Texts:
    """Concatenate the strings of all parts."""
    texts = [Texts.of(part) for part in parts]
    return Texts(*ragged.joined([(one.data, one.offsets) for one in texts], np.uint8))


def taken(texts: Sequence[str], places: NDArray[np.integer[Any]]) -> Sequence[str]:
    """Return the strings at the given positions, with the same type as `texts`."""
    if isinstance(texts, Texts):
        return texts.take(places)
    return tuple(texts[place] for place in places.tolist())


def first_places(texts: Sequence[str]) -> NDArray[np.intp]:
    """Return, for each string, the position of the first equal string.

    The hashes of all strings are sorted, and strings with equal hashes are compared. The sorted hashes require 40 bytes
    per string; a set would require four times as much memory.

    Example:
        >>> first_places(["b", "a", "b"]).tolist()
        [0, 1, 0]
    """
    count = len(texts)
    hashes = np.fromiter(map(hash, texts), np.int64, count)
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    begins = np.ones(count, dtype=np.bool_)
    begins[1:] = ordered[1:] != ordered[:-1]
    group = np.cumsum(begins) - 1
    first = np.empty(count, dtype=np.intp)
    first[order] = order[np.flatnonzero(begins)][group]
    again = np.flatnonzero(first != np.arange(count))
    if any(one != other for one, other in zip(taken(texts, again), taken(texts, first[again]), strict=True)):
        place: dict[str, int] = {}  # different texts with the same hash, which does not happen by chance
        return np.array([place.setdefault(text, k) for k, text in enumerate(texts)], dtype=np.intp)
    return first


def ranks(texts: Sequence[str]) -> NDArray[np.intp]:
    """Return the position of each string in the sorted list of all distinct strings.

    Fixed-width byte strings are sorted instead of Python strings, because UTF-8 preserves the sort order.

    Example:
        >>> ranks(["b", "a", "b"]).tolist()
        [1, 0, 1]
    """
    compact = Texts.of(texts)
    width = int(np.diff(compact.offsets).max(initial=1))
    table = np.zeros(len(compact), dtype=f"S{width}")
    begin = 0
    for block in batched(compact, BLOCK):
        table[begin : begin + len(block)] = [text.encode(ENCODING, ERRORS) for text in block]
        begin += len(block)
    return np.unique(table, return_inverse=True)[1].reshape(-1)


def distinct(texts: Sequence[str]) -> int:
    """Return the number of distinct strings."""
    return int(np.count_nonzero(first_places(texts) == np.arange(len(texts))))


def repeated(texts: Sequence[str]) -> list[str]:
    """Return each repeated string once, in the order of the second occurrence.

    Example:
        >>> repeated(["a", "b", "a", "a"])
        ['a']
    """
    first = first_places(texts)
    again = np.flatnonzero(first != np.arange(len(texts)))
    return list(dict.fromkeys(taken(texts, first[again])))


def shared(texts: Sequence[str], others: Sequence[str]) -> set[str]:
    """Return the strings that are in both sequences."""
    return set(taken(texts, np.flatnonzero(shared_with(texts, others))))


def shared_with(texts: Sequence[str], others: Sequence[str]) -> NDArray[np.bool_]:
    """Return, for each of the N strings in `texts`, whether the string is also in `others`.

    Example:
        >>> shared_with(["a", "b"], ["c", "b"]).tolist()
        [False, True]
    """
    first = first_places(joined([others, texts]))[len(others) :]
    return np.asarray(first < len(others))
