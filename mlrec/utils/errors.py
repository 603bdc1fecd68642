"""Errors that mlrec reports, and `ValidationReport`.

`ValidationReport` collects the errors and warnings from a check.

::

    MlrecError (ValueError)      exit 1   the message states what is wrong, where, and how to fix it
    ├── DataError                         annotations, images, manifests
    ├── PredictionsError                  scores and targets
    ├── ModelError                        backbones, heads, weights, checkpoints
    ├── RunError                          run folders, resume, locks, sweeps
    └── UsageError               exit 2   a flag or an argument
        └── ConfigError          exit 2   a key or a value of a TOML file

Exit codes are 0 for success (with or without warnings), 1 or 2 for an `MlrecError`, 130 for SIGINT, and 143 for
SIGTERM.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

LINES_SHOWN = 10
LONGEST_NAME = 200
LONGEST_LINE = 1000


class MlrecError(ValueError):
    """Base class of all errors raised by mlrec.

    The message is a single line that states what is wrong, where, and how to fix it. Additional arguments add lines to
    the message, for example to list several errors. When an error is converted to a string, control characters are
    escaped and long lines are shortened, because names in a message may come from third-party files.

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

    def __str__(self) -> str:
        return "\n".join(printable(line, LONGEST_LINE) for line in self.args)


class DataError(MlrecError):
    """Raised if annotations, images or manifests are missing or invalid."""


class PredictionsError(MlrecError):
    """Raised if scores and ground truth cannot be compared."""


class ModelError(MlrecError):
    """Raised if a backbone, a head, weights or a checkpoint cannot be used."""


class RunError(MlrecError):
    """Raised if a run folder is missing, in use, incomplete, or from a different experiment."""


class UsageError(MlrecError):
    """Raised if a flag or an argument is invalid."""

    exit_code = 2


class ConfigError(UsageError):
    """Raised if a key or a value in a configuration file or a flag is invalid."""


# Out-of-memory messages of libraries, in lower case: torch for CUDA and MPS, torch's CPU allocator on Linux and
# Windows, cuBLAS and related libraries, cuDNN, and the CUDA runtime.
_OUT_OF_MEMORY = (
    *("out of memory", "out_of_memory", "allocate memory", "not enough memory"),
    *("status_alloc_failed", "allocation_failed", "errormemoryallocation"),
)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether insufficient memory caused an error.

    Errors of Python, torch (CPU, CUDA, MPS, cuDNN, cuBLAS) and ONNX Runtime are recognized.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    library = isinstance(error, RuntimeError) or type(error).__module__.startswith("onnxruntime.")
    return library and any(sign in str(error).casefold() for sign in _OUT_OF_MEMORY)


def first_of(names: Sequence[str], most: int) -> str:
    """Format a list of names; a long list is shortened to the first names and the number of other names.

    Example:
        >>> first_of(["cat", "dog", "hen"], 2)
        'cat, dog and 1 more'
    """
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def escaped(text: str) -> str:
    r"""Escape unprintable characters, such as control characters, direction marks and lone surrogates.

    Names come from third-party files, and a raw ESC or newline could corrupt the output. Text that is already escaped
    is not changed. Text is escaped on output: in `MlrecError`, in the terminal, in tables and in figures.

    Example:
        >>> print(escaped("a\x1b[31m\n.jpg"))
        a\x1b[31m\n.jpg
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode("ascii") for char in text
    )


def printable(text: object, longest: int = LONGEST_NAME) -> str:
    """Escape unprintable characters, and shorten text with more than `longest` characters in the middle.

    Both ends of the text are kept, because a message ends with the fix, and a path ends with the file name.
    """
    return _both_ends(escaped(_both_ends(str(text), longest)), longest)


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Format a number with a noun in the singular or plural; the default plural is `noun` with an "s".

    Example:
        >>> counted(1, "image"), counted(1200, "image"), counted(2, "class", "classes")
        ('1 image', '1,200 images', '2 classes')
    """
    if number != 1:
        noun = plural or f"{noun}s"
    return f"{number:,} {noun}"


def _both_ends(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    half = longest // 2
    return f"{text[:half]}…{text[-half:]}"


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a suggestion for the end of a message: the known name that is most similar to `name`.

    Returns "" if no name is similar.

    Example:
        >>> nearest("lrr", ["lr", "epochs"])
        "; did you mean 'lr'?"
    """
    by_folded = {candidate.casefold(): candidate for candidate in known}
    close = difflib.get_close_matches(name.casefold().strip(), by_folded, n=1, cutoff=0.6)
    return f"; did you mean '{printable(by_folded[close[0]])}'?" if close else ""


@dataclass
class ValidationReport:
    """Errors and warnings from a check.

    All errors are collected and raised together, and warnings are grouped by kind. A reader adds errors and warnings
    for each record. The workflow raises a single error, and stores the warnings with the result.

    Example:
        >>> report = ValidationReport()
        >>> report.warn("blank lines were skipped", "a.csv: line 3")
        >>> report.warn("blank lines were skipped", "a.csv: line 9")
        >>> report.warnings
        ['blank lines were skipped: 2 times, first a.csv: line 3']
    """

    errors: list[str] = field(default_factory=list)
    _warnings: dict[str, list[str]] = field(default_factory=dict)

    def error(self, where: str, what: str) -> None:
        """Add an error: `where` is the file and record, and `what` is the problem and how to fix it."""
        self.errors.append(printable(f"{where}: {what}", LONGEST_LINE))

    def warn(self, kind: str, record: str) -> None:
        """Add a warning about `record`; warnings with the same text `kind` are reported in one line."""
        self._warnings.setdefault(kind, []).append(printable(record))

    @property
    def warnings(self) -> list[str]:
        """Return one line per kind of warning, with the number of records and the first record."""
        return [
            f"{kind}: {records[0]}" if len(records) == 1 else f"{kind}: {len(records)} times, first {records[0]}"
            for kind, records in self._warnings.items()
        ]

    def raise_errors(self, heading: str, log: str, kind: type[MlrecError] = DataError) -> None:
        """Raise an error if any errors were added.

        A single error is raised with its own message. For multiple errors, the message is `heading` followed by the
        first ten errors.

        Args:
            heading: First line of the message if there are multiple errors.
            log: Name of the file to which the caller writes all errors, or "" if there is no file. The message quotes
                this name.
            kind: Class of the error to raise.
        """
        if not self.errors:
            return
        if len(self.errors) == 1:
            raise kind(*self.errors[0].split("\n"))
        shown = [f"  {line}" for line in self.errors[:LINES_SHOWN]]
        hidden = len(self.errors) - len(shown)
        last = []
        if hidden:
            last.append(f"... and {hidden} more")
        if log:
            last.append(f"(full list: {log})" if hidden else f"(list: {log})")
        if last:
            shown.append(f"  {' '.join(last)}")
        raise kind(f"{heading}: {len(self.errors)} errors", *shown)
