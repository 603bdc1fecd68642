"""`mlrec fit`: train a model for a dataset within a time limit.

The steps are to prepare the data, compare heads and backbones, fine-tune, tune thresholds, and write a report. All
choices are made on the split `val`; the reported split is scored only once, at the end.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from mlrec.datasets.dataset import DATASET_FILE, Dataset
from mlrec.datasets.manifest import Manifest
from mlrec.datasets.readers.registry import ReadOptions
from mlrec.metrics.summary import Metrics
from mlrec.reports.render.table import Column, Row, Table
from mlrec.run_folders import directory
from mlrec.run_folders.record import Run, RunRecord
from mlrec.utils.errors import UsageError, counted
from mlrec.utils.files import MODEL_FILE, check_name, remove_folder, write_json, write_text
from mlrec.utils.progress import NOTHING, SILENT, Progress, RunProgress, logged_from, logged_once
from mlrec.utils.signals import stopped_says
from mlrec.workflows.data.prepare import prepare
from mlrec.workflows.data.split import add_splits
from mlrec.workflows.evaluate.evaluate import evaluate_run
from mlrec.workflows.evaluate.label_errors import label_errors
from mlrec.workflows.evaluate.tune import tune
from mlrec.workflows.fit import candidates
from mlrec.workflows.fit.candidates import Flags, Pretrained
from mlrec.workflows.fit.splits import fit_splits, limited, restored
from mlrec.workflows.fit.state import FILE, PAGE, Candidate, FitState, dataset_of, default_name, state_at
from mlrec.workflows.fit.timing import PROBED, RECIPE, OtherPace, Pace, probe
from mlrec.workflows.report.page import report_page
from mlrec.workflows.report.report import report
from mlrec.workflows.runtime import RuntimeOptions
from mlrec.workflows.train.run_record import FREE
from mlrec.workflows.train.train import resume, train

if TYPE_CHECKING:
    from mlrec.training.features import FeatureCache


logger = logging.getLogger(__name__)
CANDIDATES, BEST, ERRORS = "candidates", "best", "label-errors"
FROZEN_SHARE = 0.3  # of the time, for heads on frozen features
SHARES = {"sample": 0.16, "val": 0.04, "test": 0.15}  # of the time, at most, for the features of each split
ENDING, ENDING_LABEL = 6.0, 0.1  # seconds of thresholds, report page and contact sheet: constant, and per label
TRAINING_COST = 4.0  # time of a training step in forward passes
MOST_EPOCHS, LEAST_SHARE = 30, 0.25  # epochs of a fine-tuned run, and the least part of an epoch
FIRST_SHARE = 0.6  # of the time that is left for fine-tuning, for the first of several runs
USEFUL_EPOCHS = 3  # a further run must have time for as many epochs; otherwise the first run gets all the time
MOST_FORECASTS = 3  # forecasts of the time of one training


@dataclass(frozen=True)
class FitResult:
    """Result of a fit: the best model and its metrics.

    Attributes:
        folder: Folder of the fit, with `best` (a run folder), `report.html`, `label-errors` and `fit.json`.
        state: Candidates and choices.
        metrics: Metrics of the best model on the reported split.
        seconds: Total time in seconds.
    """

    folder: Path
    state: FitState
    metrics: Metrics
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON-compatible data that `mlrec fit --json` prints."""
        content: dict[str, Any] = msgspec.to_builtins(self.state)
        return {"path": str(self.folder), "seconds": self.seconds, **content, "metrics": self.metrics.to_dict()}


def fit(
    path: Path | str,
    *,
    images: Path | None = None,
    minutes: float = 10.0,
    out: Path | str = "runs",
    name: str | None = None,
    data_root: Path | str = "data",
    backbone: str | None = None,
    weights: str | None = None,
    flags: Mapping[str, Any] | None = None,
    progress: Progress = SILENT,
) -> FitResult:
    """Train the best model within a time limit; write the model, a report, and label errors to review.

    Args:
        path: Prepared dataset, or annotations recognized by `prepare`.
        images: Folder of the images, if they are not stored with the annotations; for other options, run `prepare`
            first.
        minutes: Time limit in minutes.
        out: Folder of runs, in which the fit folder is created.
        name: Name of the fit folder [default: name of the dataset with the suffix "-fit"].
        data_root: Folder of prepared datasets.
        backbone: Only backbone to try [default: all available ones].
        weights: Weights of this backbone, in the same form as the `Config` key `weights`.
        flags: Additional keys of `Config` for all runs, such as `device`, `threads` or `img_size`.
        progress: Progress display.

    Raises:
        UsageError: The time limit is not positive, `weights` is set without `backbone`, or the folder contains a
            finished fit, a fit with different data or options, or other files.
        MlrecError: The data cannot be prepared or divided, or no backbone is available.
        Interrupted: SIGINT or SIGTERM was received; to resume, run the same command again.
    """
    if not 0 < minutes < float("inf"):
        raise UsageError(f"--minutes must be above 0, got {minutes:g}")
    if weights is not None and backbone is None:
        raise UsageError("--weights requires --backbone, the name of the backbone of the weights")
    if name is not None:
        check_name(name)
    begun = time.monotonic()
    source, out = Path(path), Path(out)
    dataset: Dataset | None
    if (source / DATASET_FILE).is_file():
        dataset = Dataset.load(source)
    else:
        dataset = dataset_of(source, out, name)
    if dataset is None:
        dataset = prepare(None, source, out=data_root, options=ReadOptions(images=images), progress=progress)
    folder = out / (name or default_name(dataset))
    return _Fit(dataset, folder, minutes, begun, dict(flags or {}), (backbone, weights), source, progress).run()


class _Fit:
    """Stages of a fit, in the order of `run`."""

    def __init__(
        self,
        dataset: Dataset,
        folder: Path,
        minutes: float,
        begun: float,
        flags: dict[str, Any],
        only: tuple[str | None, str | None],
        source: Path,
        progress: Progress,
    ) -> None:
        from mlrec.training.devices import resolve_device
        from mlrec.training.features import FeatureCache

        self.folder, self.flags, self.only, self.progress = folder, flags, only, progress
        options = {"backbone": only[0], "weights": only[1], **flags}
        options = {key: value for key, value in options.items() if key not in FREE}
        self.state = state_at(folder, minutes, dataset, options, source)
        self.begun = begun - self.state.spent
        self.features: FeatureCache = FeatureCache()
        self.device = resolve_device(str(flags.get("device", "auto"))).type
        self.per_image: dict[str, float] = {}  # seconds of decoding and a forward pass, by backbone
        self.cached: set[str] = set()  # backbones whose features are in memory
        self.splits = restored(fit_splits(dataset, progress=progress), self.state.splits)

    def run(self) -> FitResult:
        """Run all stages; finished candidates from an interrupted fit are not trained again."""
        if self.state.splits:
            logger.info(f"resuming {self.folder} after {self.state.spent:.0f} s, with the data in {self.state.data}")
        try:
            with stopped_says("stopped; run the same command again to resume this fit"):
                if self.state.best is None:
                    self.train_candidates()
                return self.finish()
        finally:
            self._save()  # the time that an interrupted fit has spent

    def train_candidates(self) -> None:
        """Train all candidates for which there is time."""
        pretrained = candidates.reachable(*self.only)
        with logged_once():  # every candidate has the same labels without positives
            self.compare_frozen(pretrained, FROZEN_SHARE * 60 * self.state.minutes)
            self.fine_tune()
            self.train_on_all()
            self.compare_frozen(pretrained, self.elapsed() + self.left() - self._reserve(), last=True)

    def elapsed(self) -> float:
        """Return the seconds since the start of the fit, including those spent before an interruption."""
        return time.monotonic() - self.begun

    def left(self) -> float:
        """Return the remaining seconds."""
        return 60 * self.state.minutes - self.elapsed()

    # Stage 1: heads on the cached features of each backbone.

    def compare_frozen(self, pretrained: list[Pretrained], until: float, *, last: bool = False) -> None:
        """Compare candidates with frozen backbones.

        First, heads are compared on the first backbone, then learning rates for the best head, and then top heads on
        other backbones.

        Args:
            pretrained: Backbones, fastest first.
            until: Time after which no further candidate is trained, in seconds since the start of the fit.
            last: Whether this is the last call. If so, candidates that were not tried are listed in the notes.
        """
        first, *others = pretrained
        size = self.flags.get("img_size") or candidates.image_side(self._manifest("sample"), self.device)
        base = {**candidates.FROZEN, **first.flags, "img_size": size, "lr": candidates.FROZEN_LR}
        self._limit_splits(base)
        for head, keys in candidates.HEADS.items():
            pair = f"{first.name}-{head}"
            self._frozen(pair, pair, {**base, **keys}, until, last)
        best = self._ranked("frozen")[0]
        for lr in candidates.OTHER_FROZEN_LRS:
            self._frozen(f"{best.pair}-lr{lr:g}", best.pair, {**best.flags, "lr": lr}, until, last)
        for other in others:
            new = not any(one.pair.startswith(f"{other.name}-") for one in self.state.candidates)
            if new and not self._has_time({**base, **other.flags}, until):
                if last:
                    self._note(f"backbone {other.name} was not tried: the remaining time is too short")
                continue
            for tried in self._best_heads()[:2]:
                pair = f"{other.name}-{tried.pair.partition('-')[2]}"
                self._frozen(pair, pair, {**tried.flags, **other.flags}, until, last)

    def _frozen(self, name: str, pair: str, flags: Flags, until: float, last: bool) -> None:
        """Train a head if there is time left in this stage; the first head is always trained."""
        if self.state.candidates and not self._is_known(name) and not self._has_time(flags, until):
            if last:
                self._note(f"{name} was not tried: the time had run out")
            return
        self._train(name, pair, "frozen", flags, self.splits.sample)

    def _has_time(self, flags: Flags, until: float) -> bool:
        """Return whether a head can be trained until a time in seconds since the start of the fit.

        If the features of the backbone are not in memory, they are computed first, and the reported split takes longer
        if this backbone is chosen.
        """
        end = self.elapsed() + self._ranked("frozen")[0].seconds
        if end <= until and flags["backbone"] not in self.cached:
            images = sum(len(self._manifest(part)) for part in SHARES)
            end += images * self._seconds_per_image(flags)
        return end <= until

    # Stage 2: fine-tuning of the most promising.

    def fine_tune(self) -> None:
        """Fine-tune the best backbone-head pairs with as many epochs as time permits."""
        best, *rest = self._ranked("frozen")
        other = next((one for one in rest if one.pair != best.pair), None)
        tries = [(best, lr) for lr in candidates.FINE_TUNED_LRS]
        if other is not None:
            tries.append((other, candidates.FINE_TUNED_LRS[0]))
        for number, (frozen, lr) in enumerate(tries, start=1):
            name = f"{frozen.pair}-tuned-lr{lr:g}"
            share = FIRST_SHARE
            further = USEFUL_EPOCHS * len(self._manifest("train")) * self._training_seconds(frozen.flags)
            if number == len(tries) or (1 - share) * (self.left() - self._reserve()) < further:
                share = 1.0
            # Linear probing, then fine-tuning (Kumar et al., ICLR 2022): a trained head does not distort the features.
            start = {"init_from": str(self.folder / CANDIDATES / frozen.name), "init_head": True}
            flags = {**frozen.flags, **candidates.fine_tuned(), **start, "lr": lr}
            if self._is_known(name):
                continue
            if not self._fine_tuned(name, frozen.pair, flags, share * (self.left() - self._reserve())):
                return

    def _fine_tuned(self, name: str, pair: str, flags: dict[str, Any], allowed: float) -> bool:
        """Fine-tune with the number of epochs that fit into `allowed` seconds.

        If not even one epoch fits, a random part of the training split is used once. Returns False if the part would
        be too small.
        """
        whole, batch = len(self._manifest("train")), int(flags["batch_size"])
        seconds = self._training_seconds(flags)  # per image
        scoring = self._seconds_per_image(flags) * len(self._manifest("val"))
        begun = time.monotonic()
        for attempt in range(MOST_FORECASTS):
            time_left = allowed - (time.monotonic() - begun) - scoring
            started = self._started(name)
            if started is None:
                seen = int(time_left / seconds)  # images that can be trained on
                if seen < LEAST_SHARE * whole:
                    self._note(f"{name} was not trained: the remaining time is too short")
                    return False
                dataset, split = limited(self.splits.dataset, self.splits.train, seen)
                self.splits = replace(self.splits, dataset=dataset)
                epochs = min(MOST_EPOCHS, max(1, seen // whole))
            else:
                epochs, split = started.config["epochs"], started.config["train_split"]
                time_left += started.seconds.get("train", 0.0)
            images = len(self.splits.dataset.manifest(split))
            steps = -(-images // batch)  # of an epoch
            pace = Pace(epochs * steps, time_left, can_grow=started is None and epochs < MOST_EPOCHS)
            watched = [pace]
            if attempt == MOST_FORECASTS - 1:  # the last attempt is not stopped, even if it is slower
                watched = []
            try:
                self._train(name, pair, "fine-tuned", {**flags, "epochs": epochs}, split, watched)
            except OtherPace as measured:
                seconds = measured.seconds * steps / images
                self._discard(name, split)
                continue
            if split != self.splits.train:
                self._note(
                    f"{name} was trained on {images:,} of {whole:,} images, because a whole epoch takes too long"
                )
            return True
        return False

    def _started(self, name: str) -> RunRecord | None:
        """Return the record of a run that an interrupted fit has started, if the run can be resumed."""
        place = self.folder / CANDIDATES / name
        if not (place / directory.RESUME).is_file() or not (place / directory.RECORD).is_file():
            return None
        record = RunRecord.load(place)
        return record if record.config["train_split"] in self.splits.dataset.info.splits else None

    def _discard(self, name: str, split: str) -> None:
        """Remove a run that would take too long or not long enough, and the part of the images made for this run."""
        remove_folder(self.folder / CANDIDATES / name)
        if split != self.splits.train and split not in self.state.splits.values():
            dataset = self.splits.dataset
            self.splits = replace(
                self.splits, dataset=add_splits(dataset, dataset.manifest(split), [], outdated=[split])
            )

    def train_on_all(self) -> None:
        """Train the best candidate on all training samples if its head was trained on a part of them."""
        best = max(self.state.candidates, key=lambda one: one.score)
        if best.stage != "frozen" or self.splits.sample == self.splits.train:
            return
        images = len(self._manifest("train"))
        cost = self._seconds_per_image(best.flags) * images + best.seconds * images / len(self._manifest("sample"))
        if cost < self.left() - self._reserve():
            self._train(f"{best.name}-all", best.pair, "frozen", best.flags, self.splits.train)

    # Stage 3: thresholds, the reported split, the page and the label errors.

    def finish(self) -> FitResult:
        """Choose the best candidate, tune thresholds on `val`, and score the reported split once."""
        best = max(self.state.candidates, key=lambda one: one.score)
        target, quiet = self.folder / BEST, RunProgress(self.progress)
        source = self.folder / CANDIDATES / best.name
        self._save(best=best.name)
        if source.is_dir():
            source.rename(target)
        for one in self.state.candidates:
            (self.folder / CANDIDATES / one.name / MODEL_FILE).unlink(missing_ok=True)
        data, test = self.splits.dataset.path, self.splits.test
        machine = RuntimeOptions(
            **{key: self.flags[key] for key in ("workers", "device", "precision") if key in self.flags}
        )
        with logged_from(NOTHING):
            tune(target, split=self.splits.val, data=data, machine=machine)
        with logged_from(logging.WARNING):
            evaluation = evaluate_run(target, data=data, split=test, machine=machine, progress=quiet)
            scores = evaluation.path / directory.PREDICTIONS
            label_errors(data, predictions=scores, split_name=test, out=self.folder / ERRORS, progress=quiet)
            write_text(self.folder / PAGE, report_page(report([evaluation.path]), progress=quiet))
        return FitResult(self.folder, self.state, evaluation.metrics, self.elapsed())

    # Parts of the stages.

    def _limit_splits(self, flags: Flags) -> None:
        """Replace splits with random subsets if computing the features would take too much time."""
        if self.state.splits:
            return
        per_image, total = self._seconds_per_image(flags), 60 * self.state.minutes
        for part, share in SHARES.items():
            whole = getattr(self.splits, part)
            dataset, name = limited(self.splits.dataset, whole, max(PROBED, int(share * total / per_image)))
            self.splits = replace(self.splits, dataset=dataset, **{part: name})
            if name != whole:
                use = "to compare heads" if part == "sample" else "for scoring"
                self._note(
                    f"{len(self._manifest(part)):,} random samples from {whole} are used {use}, because using all "
                    "samples would take too long"
                )
        self._save(splits={part: getattr(self.splits, part) for part in ("train", *SHARES)})

    def _train(
        self, name: str, pair: str, stage: str, flags: Flags, split: str, callbacks: Sequence[object] = ()
    ) -> None:
        """Train a candidate on a split and record its mAP on `val`.

        Recorded or finished candidates are not trained again.
        """
        if self._is_known(name):
            return
        begun, place = time.monotonic(), self.folder / CANDIDATES / name
        run = _finished(place)
        if run is None:
            with logged_from(logging.WARNING):
                run = self._trained(name, self._keys(flags, split), callbacks)
            if stage == "frozen":
                self.cached.add(str(flags["backbone"]))
        elapsed = time.monotonic() - begun
        seconds = max(0.0, elapsed - run.record.seconds.get("features", 0.0))
        candidate = Candidate(
            name=name, pair=pair, stage=stage, mAP=run.metrics().mAP, seconds=seconds, flags=dict(flags)
        )
        self._save(candidates=[*self.state.candidates, candidate])
        logger.info(f"{name}: mAP on {self.splits.val} {100 * candidate.score:.1f} ({elapsed:.0f} s)")

    def _trained(self, name: str, keys: Flags, callbacks: Sequence[object]) -> Run:
        """Train a candidate, or resume it."""
        place, quiet = self.folder / CANDIDATES / name, RunProgress(self.progress)
        if self._started(name) is not None:
            return resume(place, features=self.features, callbacks=callbacks, progress=quiet)
        if place.is_dir():
            remove_folder(place)
        return train(
            keys, recipe=RECIPE, out=place.parent, name=place.name, features=self.features,
            callbacks=callbacks, progress=quiet,
        )  # fmt: skip

    def _keys(self, flags: Flags, split: str) -> dict[str, Any]:
        """Return the keys for a training run on a split; keys set by the user have priority."""
        data = {"data": str(self.splits.dataset.path), "train_split": split, "split": self.splits.val}
        return {"unknown": "ignore", **flags, **self.flags, **data}

    def _seconds_per_image(self, flags: Flags) -> float:
        """Measure the time for decoding an image and computing its features, once per backbone."""
        backbone = str(flags["backbone"])
        if backbone not in self.per_image:
            self.per_image[backbone] = probe(self._keys(flags, self.splits.sample))
        return self.per_image[backbone]

    def _training_seconds(self, flags: Flags) -> float:
        """Return the estimated time of a training step per image."""
        return TRAINING_COST * self._seconds_per_image(flags)

    def _reserve(self) -> float:
        """Return the seconds required for the last stage, if the candidate with the slowest backbone is chosen."""
        test = self._manifest("test")
        slowest = max(self._seconds_per_image(one.flags) for one in self.state.candidates)
        return ENDING + ENDING_LABEL * len(test.labels) + slowest * len(test)

    def _manifest(self, part: str) -> Manifest:
        return self.splits.dataset.manifest(getattr(self.splits, part))

    def _ranked(self, stage: str) -> list[Candidate]:
        """Return the candidates in a stage, best first."""
        return sorted((one for one in self.state.candidates if one.stage == stage), key=lambda one: -one.score)

    def _best_heads(self) -> list[Candidate]:
        """Return the best frozen candidate of each head, best first."""
        best: dict[str, Candidate] = {}
        for one in self._ranked("frozen"):
            best.setdefault(one.pair.partition("-")[2], one)
        return list(best.values())

    def _is_known(self, name: str) -> bool:
        return any(one.name == name for one in self.state.candidates)

    def _note(self, text: str) -> None:
        if text in self.state.notes:  # of an interrupted fit
            return
        logger.info(text)
        self._save(notes=[*self.state.notes, text])

    def _save(self, **changes: Any) -> None:
        """Update the state and write it with the seconds spent."""
        self.state = msgspec.structs.replace(self.state, **changes, spent=self.elapsed())
        write_json(self.folder / FILE, msgspec.to_builtins(self.state))


def _finished(place: Path) -> Run | None:
    if not (place / directory.RECORD).is_file():
        return None
    record = RunRecord.load(place)
    return Run(place, record) if record.status == "finished" else None


def summary(result: FitResult) -> Table:
    """Return the table of candidates, best first, with the chosen candidate marked."""
    columns = (
        Column("candidate", "candidate", identity=True),
        Column("stage", "stage"),
        Column("mAP", "mAP", "percent"),
        Column("seconds", "seconds", "count"),
    )
    ranked = sorted(result.state.candidates, key=lambda one: -one.score)
    rows = tuple(Row((one.name, one.stage, one.mAP, round(one.seconds))) for one in ranked)
    splits = result.state.splits
    notes = (f"mAP on split {splits['val']}; the candidate in the first row was chosen", *result.state.notes)
    return Table(f"{counted(len(rows), 'candidate')}, trained on {splits['train']}", columns, rows, notes)
