"""Which files are tables, and of which form."""

from __future__ import annotations

from pathlib import Path

ENDINGS = (".csv", ".tsv")


def recognizes(path: Path) -> str | None:
    """Why `path` is a table of labels, or a folder of such tables; None if it is not."""
    if path.is_file():
        return f"{path.name} is a table" if path.suffix.lower() in ENDINGS else None
    tables = sorted(file.name for file in path.iterdir() if file.suffix.lower() in ENDINGS)
    return f"a folder with {tables[0]}" if tables else None
