"""`mlrec eval --voc-server`: write and check an archive for the PASCAL VOC evaluation server."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mlrec.predictions import Floats, Predictions
from mlrec.utils.errors import PredictionsError, UsageError
from mlrec.utils.files import atomic_write

SUFFIXES = (".tgz", ".tar.gz")
KINDS = ("voc2007", "voc2012")


def member(year: str, split: str, label: str) -> str:
    """Return the name of the file for a class in the archive.

    The competition `comp2` allows additional training data (ImageNet).
    """
    return f"results/{year}/Main/comp2_cls_{split}_{label}.txt"


def check_name(out: Path) -> None:
    """Raise UsageError if the server does not accept the file extension of the archive."""
    if not out.name.endswith(SUFFIXES):
        raise UsageError(
            f"--voc-server {out}: the server does not accept this file extension; use {' or '.join(SUFFIXES)}"
        )


def check_data(kind: str, labels: Sequence[str]) -> None:
    """Raise UsageError if the server does not score this dataset; called before the model runs."""
    from mlrec.datasets.readers.voc import LABELS  # an evaluation without an archive needs no reader

    if kind not in KINDS or set(labels) != set(LABELS):
        raise UsageError(
            f"--voc-server: the server accepts only scores for the 20 classes of VOC, not for {kind}; omit --voc-server"
        )


def write_server_archive(predictions: Predictions, out: Path, *, kind: str, split: str) -> None:
    """Write one file per class, with one line `<image> <confidence>` per image, and check the archive.

    Confidences are logits in full float32 precision. The logits are not converted to probabilities, because the sigmoid
    would create ties among the largest values. Identical predictions produce identical bytes.

    Args:
        predictions: Predictions for all 20 classes.
        out: Path of the archive, with the extension `.tgz` or `.tar.gz`.
        kind: Kind of the dataset, "voc2007" or "voc2012".
        split: Scored split.

    Raises:
        UsageError: The dataset is not VOC, or the archive has a different file extension.
        PredictionsError: The content of the archive differs from the predictions.
    """
    check_data(kind, predictions.labels)
    check_name(out)
    year = kind.upper()
    names = [Path(sample).stem for sample in predictions.sample_ids]
    logits = predictions.logits.astype(np.float32)
    with (
        atomic_write(out) as stream,
        gzip.GzipFile(fileobj=stream, mode="wb", mtime=0, filename="") as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for k, label in enumerate(predictions.labels):
            lines = [f"{name} {value!s}\n" for name, value in zip(names, logits[:, k], strict=True)]
            content = "".join(lines).encode("ascii")
            entry = tarfile.TarInfo(member(year, split, label))
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    _check(out, predictions.labels, names, logits, year, split)


def _check(out: Path, labels: tuple[str, ...], names: list[str], logits: Floats, year: str, split: str) -> None:
    with tarfile.open(out, "r:gz") as archive:
        for k, label in enumerate(labels):
            stream = archive.extractfile(member(year, split, label))
            assert stream is not None  # None is for folders and links
            pairs = [line.split(" ") for line in stream.read().decode("ascii").splitlines()]
            same = [name for name, _ in pairs] == names
            if not same or not np.array_equal(np.array([v for _, v in pairs], dtype=np.float32), logits[:, k]):
                raise PredictionsError(
                    f"{out}: the values written for class {label} differ from the predictions; check the disk"
                )
        if len(archive.getnames()) != len(labels):
            raise PredictionsError(f"{out}: the archive does not contain one file per class; check the disk")
