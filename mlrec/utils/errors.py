"""The errors that mlrec reports, and `ValidationReport`, which collects the errors and warnings of a check.

::

    MlrecError (ValueError)      exit 1   the user can fix it; the message states what is wrong, where, and the fix
    ├── DataError                         annotations, images, manifests
    ├── PredictionsError                  scores and targets
    ├── ModelError                        backbones, heads, weights, checkpoints
    ├── RunError                          run directories, resume, locks, sweeps
    └── UsageError               exit 2   a flag or an argument
        └── ConfigError          exit 2   a key or a value of a TOML file

Exit codes: 0 success (with or without warnings), 1 and 2 as above, 130 SIGINT, 143 SIGTERM.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field

LINES_SHOWN = 10
LONGEST_NAME = 200


class MlrecError(ValueError):
    """Base class of all errors that mlrec raises on purpose: the message says what is wrong, where, and how to fix it.

    Attributes:
        exit_code: Exit code of the command line.

    Example:
        >>> try:
        ...     raise DataError("train.csv: line 3: 'maybe' is not 1, 0 or -1; correct the cell")
        ... except MlrecError as error:
        ...     print(error.exit_code, error)
        1 train.csv: line 3: 'maybe' is not 1, 0 or -1; correct the cell
    """

    exit_code = 1


class DataError(MlrecError):
    """Annotations, images or manifests that cannot be used."""


class PredictionsError(MlrecError):
    """Scores or truths that cannot be compared."""


class ModelError(MlrecError):
    """A backbone, a head, weights or a checkpoint that cannot be used."""


class RunError(MlrecError):
    """A run directory that is missing, in use, incomplete or of another experiment."""


class UsageError(MlrecError):
    """A flag or an argument that makes no sense."""

    exit_code = 2


class ConfigError(UsageError):
    """A key or a value of a configuration file or flag."""


# What libraries write when memory runs out: torch for CUDA and MPS, its CPU allocator on Linux and Windows, cuBLAS and
# its relatives, cuDNN, the CUDA runtime. In lower case.
_OUT_OF_MEMORY = (
    "out of memory", "out_of_memory", "allocate memory", "not enough memory", "status_alloc_failed",
    "allocation_failed", "errormemoryallocation",
)  # fmt: skip


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of Python, torch (CPU, CUDA, MPS, cuDNN, cuBLAS) or ONNX Runtime means that memory ran out."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    library = isinstance(error, RuntimeError) or type(error).__module__.startswith("onnxruntime.")
    return library and any(sign in str(error).casefold() for sign in _OUT_OF_MEMORY)


def printable(text: object) -> str:
    """`text` safe on one line of any terminal: control characters escaped, of more than 200 characters both ends.

    Names come from files of strangers; a raw ESC or newline could rewrite the message that shows them. Of a long path
    the end says most.
    """
    return _both_ends(
        "".join(
            char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode("ascii")
            for char in _both_ends(str(text))
        )
    )


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun in the right form; the plural is `noun` with an s unless it is given.

    Example:
        >>> counted(1, "image"), counted(1200, "image"), counted(2, "class", "classes")
        ('1 image', '1,200 images', '2 classes')
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def _both_ends(text: str) -> str:
    half = LONGEST_NAME // 2
    return text if len(text) <= LONGEST_NAME else f"{text[:half]}…{text[-half:]}"


def nearest(name: str, known: Iterable[str]) -> str:
    """`"; did you mean 'lr'?"`, or an empty string when nothing known is near `name`."""
    by_folded = {candidate.casefold(): candidate for candidate in known}
    close = difflib.get_close_matches(name.casefold().strip(), by_folded, n=1, cutoff=0.6)
    return f"; did you mean '{printable(by_folded[close[0]])}'?" if close else ""


@dataclass
class ValidationReport:
    """What a check found: errors, all collected before failing, and warnings, aggregated by kind.

    A reader reports record by record; the workflow raises once, and stores the warnings with its result.
    """

    errors: list[str] = field(default_factory=list)
    _warnings: dict[str, list[str]] = field(default_factory=dict)

    def error(self, where: str, what: str) -> None:
        """Add an error: `where` names file and record, `what` says what is wrong and how to mend it."""
        self.errors.append(f"{printable(where)}: {what}")

    def warn(self, kind: str, record: str) -> None:
        """Add a warning of `kind` (a fixed sentence) about `record`; one line a kind is shown."""
        self._warnings.setdefault(kind, []).append(printable(record))

    @property
    def warnings(self) -> list[str]:
        """One line a kind: the sentence, how often, and the first record."""
        return [
            f"{kind}: {records[0]}" if len(records) == 1 else f"{kind}: {len(records)} times, first {records[0]}"
            for kind, records in self._warnings.items()
        ]

    def raise_errors(self, heading: str, log: str, kind: type[MlrecError] = DataError) -> None:
        """Raise `kind` if there are errors: one line for one, else `heading` and the first ten.

        `log` is the file in which the caller keeps all of them; empty where there is none.
        """
        if not self.errors:
            return
        if len(self.errors) == 1:
            raise kind(self.errors[0])
        shown = [f"  {line}" for line in self.errors[:LINES_SHOWN]]
        hidden = len(self.errors) - len(shown)
        more = [f"... and {hidden} more"] if hidden > 0 else []
        kept = [f"({'full ' if hidden > 0 else ''}list: {log})"] if log else []
        rest = f"  {' '.join([*more, *kept])}".rstrip()
        raise kind("\n".join([f"{heading}: {len(self.errors)} errors", *shown, *([rest] if rest else [])]))
