"""Right files made wrong at random, the same way for the same seed: bytes, JSON values, members of an archive."""

from __future__ import annotations

import io
import json
import random
import zipfile
from typing import Any

HEAD = 600  # bytes in which most formats say what they are
EXTREMES: tuple[Any, ...] = (
    None, True, -1, 0, 10**30, 1e308, float("nan"),
    "", "\x1b[31m", "../../x", "a\0b", "\ud800", "x" * 5000, [], {}, [[]],
)  # fmt: skip


def mutated(content: bytes, seed: int) -> bytes:
    """`content` with something changed."""
    rng = random.Random(seed)
    if content.startswith(b"PK") and rng.random() < 0.7:
        return _in_archive(content, rng)
    if content.startswith((b"{", b"[")) and rng.random() < 0.6:
        return _in_json(content, rng)
    return _in_bytes(content, rng)


def _in_bytes(content: bytes, rng: random.Random) -> bytes:
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 5, 16))):
        if not data:
            break
        place, span = rng.randrange(len(data) if rng.random() < 0.5 else min(len(data), HEAD)), rng.randrange(1, 60)
        match rng.randrange(6):
            case 0:
                data[place] = rng.randrange(256)
            case 1:
                data[place] ^= 1 << rng.randrange(8)
            case 2:
                del data[place : place + span]
            case 3:
                data[place:place] = rng.randbytes(rng.randrange(1, 10))
            case 4:
                data[place:place] = data[place : place + span]
            case _ if rng.random() < 0.3:
                del data[place:]
    return bytes(data)


def _in_json(content: bytes, rng: random.Random) -> bytes:
    """Two values exchanged or one replaced, in one line of a file of lines or in the whole of it."""
    lines = content.split(b"\n")
    try:
        place = rng.randrange(len(lines) - 1) if len(lines) > 1 and _is_json(lines[0]) else None
        value = json.loads(content if place is None else lines[place])
    except ValueError:
        return _in_bytes(content, rng)
    homes = list(_homes(value))
    if not homes:
        return _in_bytes(content, rng)
    home, key = rng.choice(homes)
    other, other_key = rng.choice(homes)
    if rng.random() < 0.3:
        home[key], other[other_key] = other[other_key], home[key]
    elif rng.random() < 0.2:
        del home[key]
    else:
        home[key] = rng.choice(EXTREMES)
    try:
        changed = json.dumps(value).encode()
    except (ValueError, RecursionError):  # a value that was put into itself
        return _in_bytes(content, rng)
    return changed if place is None else b"\n".join([*lines[:place], changed, *lines[place + 1 :]])


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _homes(value: Any) -> Any:
    """Every place in a value: the dict or list, and the key or index."""
    for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield value, key
        yield from _homes(value[key])


def _in_archive(content: bytes, rng: random.Random) -> bytes:
    """One member changed, with a check sum that is right."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    chosen = rng.choice(list(members))
    if rng.random() < 0.1:
        del members[chosen]
    else:
        members[chosen] = _in_bytes(members[chosen], rng)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return stream.getvalue()
