"""`mlrec predict --out`: predictions in parts, which can be written by multiple processes and resumed.

The output folder contains the parts, named `part-000000.csv`, `part-000001.csv` and so on (or with the extension
`.jsonl` or `.parquet`). `_predict.json` contains the settings, and `_parts/` contains one record per finished part.
When all parts are finished, `_SUCCESS` is written; `_unreadable.jsonl` is also written if an image is unreadable. The
record of a part is written after the part. Readers of Parquet folders skip names that begin with an underscore. If the
output is a single file, the parts are first written to a folder next to the file. The parts are then concatenated, and
the folder is removed.

A part depends only on its images and the settings, because no batch contains images from two parts. Therefore, the
content of a part does not depend on which process, machine or engine writes it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from mlrec.datasets.listing import Item, Source
from mlrec.utils import processes
from mlrec.utils.errors import DataError, MlrecError, RunError, UsageError
from mlrec.utils.files import atomic_write, read_own_json, remove_shared_temporary
from mlrec.utils.progress import SILENT, Progress, Step, first_process_logs
from mlrec.workflows.deploy.predict import Scorer, open_scorer, predictions_of, with_tuned
from mlrec.workflows.deploy.predict_rows import Form, joined, open_writer, parquet_library, readable
from mlrec.workflows.runtime import RuntimeOptions

logger = logging.getLogger(__name__)
FORMAT = "mlrec-predictions/1"
SETTINGS, RECORDS, SUCCESS, UNREADABLE = "_predict.json", "_parts", "_SUCCESS", "_unreadable.jsonl"
PART_SIZE = 10_000  # images per part
SHOWN = 10  # unreadable images that each process reports on stderr; all are in the file
ENDINGS: dict[str, Form] = {".csv": "csv", ".jsonl": "jsonl", ".parquet": "parquet"}
Engine = Literal["local", "ray"]


@dataclass(frozen=True)
class PredictJob:
    """Description of a prediction job and its output, identical in all processes.

    Attributes:
        model: Folder or file of the model.
        out: Output folder, or a file with one of the extensions .csv, .jsonl and .parquet.
        form: Format of the output.
        threshold: Minimum probability of a predicted label, not used with `tuned`; None means 0.5.
        tuned: Whether to use thresholds and calibration from `mlrec tune`.
        top: Number of labels to predict per image: the most probable labels are predicted, and no threshold is used.
        part_size: Number of images per part; the images in a packed file form one part.
        machine: Runtime options.
    """

    model: Path
    out: Path
    form: Form
    threshold: float | None = None
    tuned: bool = False
    top: int | None = None
    part_size: int = PART_SIZE
    machine: RuntimeOptions = field(default_factory=RuntimeOptions)

    @property
    def is_file(self) -> bool:
        """Whether the output is a single file."""
        return self.out.suffix.casefold() in ENDINGS

    @property
    def folder(self) -> Path:
        """Folder in which the parts are written."""
        if self.is_file:
            return self.out.with_name(f"{self.out.name}.parts")
        return self.out

    def part(self, number: int) -> Path:
        """Return the path of a part of the output."""
        return self.folder / f"part-{number:06}.{self.form}"

    def record(self, number: int) -> Path:
        """Return the path of the record file, which exists if the part is finished."""
        return self.folder / RECORDS / f"part-{number:06}.json"


@dataclass(frozen=True)
class Unit:
    """Images that form one part of the output.

    Attributes:
        number: Number of the part.
        digest: Digest of the image ids and boxes; for a packed file, digest of the file path and size.
        items: Images that are files or URLs.
        packed: Tar or Parquet file that contains the images, if they are not in `items`.
    """

    number: int
    digest: str
    items: tuple[Item, ...] = ()
    packed: Path | None = None


class Unreadable(msgspec.Struct, frozen=True):
    """Image that could not be read."""

    id: str
    error: str


class PartRecord(msgspec.Struct, frozen=True):
    """Content of the record of a finished part."""

    digest: str
    rows: int
    unreadable: list[Unreadable]


@dataclass(frozen=True)
class Summary:
    """Result of a prediction job: numbers of parts, predictions and unreadable images.

    Attributes:
        parts: Number of parts.
        resumed: Number of parts that were finished by an earlier run; with the local engine, only parts of this process
            are counted.
        rows: Number of predictions written to the output; 0 if not `complete`.
        unreadable: Number of images that could not be read; 0 if not `complete`.
        unreadable_file: File that lists the unreadable images, if there are any.
        complete: Whether this process found all parts finished and completed the output. If not, another process writes
            the remaining parts or has completed the output.
    """

    parts: int
    resumed: int
    rows: int
    unreadable: int
    unreadable_file: Path
    complete: bool


def output_form(out: Path, form: Form | None) -> Form:
    """Return the format for the file extension; for a folder, return the requested format, or CSV.

    Raises:
        UsageError: The file extension and the requested format differ.

    Example:
        >>> output_form(Path("scores.parquet"), None), output_form(Path("scores"), "jsonl")
        ('parquet', 'jsonl')
    """
    own = ENDINGS.get(out.suffix.casefold())
    if own is not None and form not in (None, own):
        raise UsageError(f"--out {out} and --format {form} select different formats; omit --format")
    return own or form or "csv"


@first_process_logs()
def write_predictions(
    job: PredictJob, sources: Iterable[Source], *, engine: Engine = "local", progress: Progress = SILENT
) -> Summary:
    """Predict the labels of images and write them in parts; finished parts from an earlier run are kept.

    Under torchrun, each process writes a share of the parts without communication. Each process then checks whether all
    parts are finished, and if so, completes the output.

    Args:
        job: Description of the job and the output.
        sources: Sources of images.
        engine: Execution engine: "local", or "ray" for a Ray Data pipeline.
        progress: Progress display.

    Raises:
        UsageError: The output file already exists, or the output folder contains files that were not written by this
            function.
        RunError: The output was started with a different model, settings or images.
        DataError: A packed file is damaged.
        MlrecError: A part cannot be written.
    """
    if job.form == "parquet":
        parquet_library()
    if processes.rank() == 0:
        _check_output(job)
    else:
        progress = SILENT
    with progress.task("predicting") as step:
        if engine == "ray":
            from mlrec.workflows.deploy.predict_ray import write_with_ray

            total, resumed = write_with_ray(job, sources, step)
        else:
            total, resumed = _write_own_share(job, sources, step)
    return _completed(job, total, resumed)


def _write_own_share(job: PredictJob, sources: Iterable[Source], step: Step) -> tuple[int, int]:
    """Write the unfinished parts of this process.

    Returns the total number of parts, and the number of parts of this process that an earlier run finished.
    """
    writer = None
    if processes.rank() == 0:
        writer = PartWriter(job)  # compares settings, even if all parts are finished
    total = resumed = shown = 0
    for unit in units_of(sources, job.part_size):
        total += 1
        if unit.number % processes.world_size() != processes.rank():
            continue
        if is_finished(job, unit):
            resumed += 1
            continue
        try:
            writer = writer or PartWriter(job)
            record = writer.write(unit, step)
        except MlrecError as error:
            error.speaks = True  # type: ignore[attr-defined]  # also in a process other than the first
            raise
        for image in record.unreadable[: SHOWN - shown]:
            logger.warning(image.error)
            shown += 1
    return total, resumed


class PartWriter:
    """Writer for parts of the output; each process has its own writer, which holds the model.

    Args:
        job: Description of the job and the output.

    Raises:
        RunError: The output was started with a different model or settings.
    """

    def __init__(self, job: PredictJob) -> None:
        self.job = job
        self._scorer, self._threshold = _opened(job)
        check_settings(job, _settings(job, self._scorer, self._threshold))

    def write(self, unit: Unit, step: Step) -> PartRecord:
        """Write one part and its record."""
        job, scorer = self.job, self._scorer
        items: Iterator[Item] = iter(unit.items)
        if unit.packed is not None:
            from mlrec.datasets.packed import packed_items

            items = packed_items(unit.packed)
        unreadable: list[Unreadable] = []

        def note(item: Item, error: DataError) -> None:
            unreadable.append(Unreadable(readable(item.id), readable(str(error))))

        rows = 0
        with atomic_write(job.part(unit.number), shared=True) as stream:
            writer = open_writer(stream, scorer.labels, job.form)
            for prediction in predictions_of(scorer, items, self._threshold, job.top, job.machine, note, step):
                writer.add(prediction)
                rows += 1
            writer.close()
        record = PartRecord(unit.digest, rows, unreadable)
        with atomic_write(job.record(unit.number), shared=True) as stream:
            stream.write(msgspec.json.encode(record))
        return record


def units_of(sources: Iterable[Source], size: int) -> Iterator[Unit]:
    """Divide images into parts: one per packed file, and one per `size` or fewer consecutive items.

    Example:
        >>> items = [Item(f"{k}.jpg", Path(f"{k}.jpg")) for k in range(5)]
        >>> [len(unit.items) for unit in units_of([Source(iter(items))], 2)]
        [2, 2, 1]
    """
    number, waiting = 0, []
    for source in sources:
        if source.packed is None:
            for item in source.items:
                waiting.append(item)
                if len(waiting) == size:
                    yield Unit(number, _digest_of(waiting), tuple(waiting))
                    number, waiting = number + 1, []
            continue
        if waiting:
            yield Unit(number, _digest_of(waiting), tuple(waiting))
            number, waiting = number + 1, []
        yield Unit(number, _digest([str(source.packed), source.packed.stat().st_size]), packed=source.packed)
        number += 1
    if waiting:
        yield Unit(number, _digest_of(waiting), tuple(waiting))


def is_finished(job: PredictJob, unit: Unit) -> bool:
    """Return whether a part was written completely.

    Raises:
        RunError: The part was written for different images.
    """
    file = job.record(unit.number)
    if not file.is_file():
        return False
    if _read_record(file).digest != unit.digest:
        raise RunError(
            f"{job.part(unit.number)}: images were added, removed or changed after this part was written; use a "
            "different --out"
        )
    return True


def _read_record(file: Path) -> PartRecord:
    return read_own_json(file, PartRecord, RunError, "remove it to write the part again")


def _digest_of(items: Iterable[Item]) -> str:
    return _digest([[item.id, item.box] for item in items])


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _opened(job: PredictJob) -> tuple[Scorer, Any]:
    scorer = open_scorer(job.model, job.machine)
    return with_tuned(scorer, job.model if job.tuned else None, job.threshold)


def _settings(job: PredictJob, scorer: Scorer, threshold: Any) -> dict[str, Any]:
    """Return all settings that affect the content of the output; the images are not included."""
    return {
        "format": FORMAT,
        **scorer.identity,
        "labels": list(scorer.labels),
        "preprocessing": asdict(scorer.preprocessing),
        "image_backend": scorer.decode,
        "batch_size": job.machine.batch_size or scorer.batch_size,
        "threshold": np.asarray(threshold).tolist(),
        "top": job.top,
        "output_format": job.form,
        "part_size": job.part_size,
    }


def check_settings(job: PredictJob, settings: dict[str, Any]) -> None:
    """Write the settings of a new output; the settings of an existing output must be the same.

    Raises:
        RunError: The settings differ from those of the existing output.
    """
    file = job.folder / SETTINGS
    text = json.dumps(settings, indent=2, ensure_ascii=False)
    if not file.is_file():
        with atomic_write(file, shared=True) as stream:
            stream.write(text.encode() + b"\n")
        return
    earlier = read_own_json(file, dict, RunError, "use a different --out")
    current = json.loads(text)
    changed = [key for key in {**earlier, **current} if earlier.get(key) != current.get(key)]
    if changed:
        raise RunError(
            f"{job.folder}: the job was started with different settings ({', '.join(changed)}); use the original "
            "settings to resume, or use a different --out"
        )


def _check_output(job: PredictJob) -> None:
    """Raise an error instead of overwriting files that were not written by this command."""
    if job.is_file and job.out.exists():
        raise UsageError(f"{job.out} already exists; remove it, or use a different --out")
    folder = job.folder
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: not a folder; use a different --out")
    if folder.is_dir() and not (folder / SETTINGS).is_file():
        others = [entry for entry in folder.iterdir() if not entry.name.startswith(f".{SETTINGS}.")]
        if others:
            raise UsageError(f"{folder} contains files that mlrec predict did not write; use a different --out")


def _completed(job: PredictJob, total: int, resumed: int) -> Summary:
    """Finalize the output if all parts are finished.

    Two processes may do this concurrently, with the same result.
    """
    unreadable_file = job.folder / UNREADABLE
    if job.is_file:
        unreadable_file = job.out.with_name(f"{job.out.stem}.unreadable.jsonl")
    incomplete = Summary(total, resumed, 0, 0, unreadable_file, complete=False)
    if not all(job.record(number).is_file() for number in range(total)):
        return incomplete
    try:
        records = [_read_record(job.record(number)) for number in range(total)]
        rows = sum(record.rows for record in records)
        unreadable = [image for record in records for image in record.unreadable]
        if unreadable:
            with atomic_write(unreadable_file, shared=True) as stream:
                stream.writelines(msgspec.json.encode(image) + b"\n" for image in unreadable)
        if job.is_file:
            with atomic_write(job.out, shared=True) as stream:
                joined([job.part(number) for number in range(total)], job.form, stream)
            shutil.rmtree(job.folder, ignore_errors=True)
        else:
            with atomic_write(job.folder / SUCCESS, shared=True) as stream:
                stream.write(msgspec.json.encode({"parts": total, "rows": rows, "unreadable": len(unreadable)}))
            remove_shared_temporary(job.folder)
            remove_shared_temporary(job.folder / RECORDS)
    except (OSError, MlrecError):
        if job.is_file and job.out.is_file():  # another process has just completed it, and removed the parts
            return incomplete
        raise
    return Summary(total, resumed, rows, len(unreadable), unreadable_file, complete=True)
