"""ImageNet rows of Table 1: accuracy if λ times the maximum over locations is added to each logit."""

from __future__ import annotations

from pathlib import Path, PurePath

import msgspec

from mlrec.reports.paper.figure1 import bounds_text
from mlrec.reports.paper.method_names import backbone_name
from mlrec.reports.paper.published import paper_rows
from mlrec.reports.paper.table1 import ON_SCORED, ON_SCORED_NOTE, Gain, table1_cells, table1_group
from mlrec.reports.render.table import Column, Row, Table
from mlrec.reports.settings import PAPER_WEIGHTS
from mlrec.utils.errors import RunError, counted
from mlrec.utils.files import read_bytes

FILE = "accuracy.json"
IMAGENET = (50_000, 1000)  # images and classes of the validation set
COLUMNS = (
    Column("logits", "Logits", identity=True),
    Column("lam", "λ", "number", absent=""),
    Column("top1", "top-1", "percent"),
    Column("top5", "top-5", "percent"),
    Column("difference", "Δ top-1", "points", absent=""),
    Column("interval", "95%", absent=""),
)
TOKEN_NOTE = (
    "the published logits are computed from the class token; λ = 0 is a different classifier, because it uses the mean "  # noqa: S105
    "over patches"
)


class AccuracySweep(msgspec.Struct, frozen=True):
    """Accuracy of a published classifier at many values of λ, as stored in `accuracy.json`.

    Attributes:
        backbone: timm model name with the weights tag. The tag is omitted if `weights` is a file or a package.
        weights: File or package that contains the weights; empty for weights from the hub.
        resolution: Side length of the square input in pixels.
        data: Folder of the images.
        samples: Number of images.
        classes: Number of classes that have at least one image.
        class_token: Whether the published classifier computes its logits from the class token.
        published: Top-1 and top-5 accuracy of the published logits, as fractions.
        lams: Values of λ. With λ = 0, a logit is the mean over all locations.
        top1, top5: Accuracy at each λ, as fractions.
        fixed_lam: Predefined λ.
        best_lam: λ with the highest top-1 accuracy on these images.
        gain, fixed_gain: Gain in top-1 accuracy over λ = 0, at the best and the fixed λ. See `AccuracyGains`.
    """

    backbone: str
    weights: str
    resolution: int
    data: str
    samples: int
    classes: int
    class_token: bool
    published: list[float]
    lams: list[float]
    top1: list[float]
    top5: list[float]
    fixed_lam: float
    best_lam: float
    gain: Gain
    fixed_gain: Gain

    @property
    def called(self) -> str:
        """Name of the backbone, followed by the name of the weights file if there is one."""
        if not self.weights:
            return self.backbone
        return f"{self.backbone} of {PurePath(self.weights).name}"

    @classmethod
    def load(cls, path: Path) -> AccuracySweep:
        """Read an ImageNet λ sweep from the file `accuracy.json`.

        Raises:
            RunError: The file cannot be read or was not written by `mlrec imagenet`.
        """
        try:
            return msgspec.json.decode(read_bytes(path, RunError), type=cls)
        except msgspec.MsgspecError as error:
            raise RunError(
                f"{path}: the file was not written by mlrec imagenet ({error}); run mlrec imagenet again"
            ) from error

    def at(self, lam: float) -> tuple[float, float]:
        """Return the top-1 and top-5 accuracy at a value of λ in `lams`."""
        index = self.lams.index(lam)
        return self.top1[index], self.top5[index]


def accuracy_table(sweep: AccuracySweep) -> Table:
    """Return a table of ImageNet accuracies: published classifier, fixed λ, and best λ.

    If the published classifier uses the class token, there is also a row for λ = 0.

    Args:
        sweep: Accuracy at many values of λ.
    """
    rows = [Row(("as published", None, *sweep.published, None, None))]
    if sweep.class_token:
        rows.append(Row(("mean over patches", 0.0, *sweep.at(0.0), None, None)))
    rows += [
        _row(sweep, "mean + λ · maximum, fixed", sweep.fixed_lam, sweep.fixed_gain),
        _row(sweep, f"mean + λ · maximum, best {ON_SCORED}", sweep.best_lam, sweep.gain),
    ]
    notes = [
        f"{counted(sweep.samples, 'image')} from {counted(sweep.classes, 'class', 'classes')}, {sweep.resolution} "
        f"px, {counted(len(sweep.lams), 'value')} of λ",
        ON_SCORED_NOTE,
    ]
    if sweep.class_token:
        notes.append(TOKEN_NOTE)
    return Table(f"{sweep.called} as published on {sweep.data}", COLUMNS, tuple(rows), tuple(notes))


def _row(sweep: AccuracySweep, name: str, lam: float, gain: Gain) -> Row:
    return Row((name, lam, *sweep.at(lam), gain.value, bounds_text(gain.low, gain.high)))


def accuracy_row(sweep: AccuracySweep) -> Row:
    """Return the row of Table 1 with the accuracy at λ = 0, at the best λ and at the fixed λ.

    The row is in a separate group if it is not comparable with the paper.

    Args:
        sweep: Accuracy at many values of λ.
    """
    numbers = [sweep.at(lam)[0] for lam in (0.0, sweep.best_lam, sweep.fixed_lam)]
    name = backbone_name({"backbone": sweep.backbone})
    cells = table1_cells(
        name, "own", sweep.resolution, numbers, (sweep.best_lam, sweep.fixed_lam), sweep.called, sweep.fixed_gain
    )
    printed = {row.resolution for row in paper_rows(1) if row.dataset == "imagenet"}
    architecture, _, tag = sweep.backbone.partition(".")
    reasons = []
    if (sweep.samples, sweep.classes) != IMAGENET:
        reasons.append("different images")
    if sweep.resolution not in printed:
        reasons.append("different size")
    if tag not in PAPER_WEIGHTS.get(architecture, (tag,)):
        reasons.append(f"weights {tag or 'of a file'}")
    if not reasons:
        return Row(cells, table1_group("imagenet"), marks={4: ON_SCORED})
    here = (
        f"{sweep.data}, {counted(sweep.samples, 'image')} of {counted(sweep.classes, 'class', 'classes')}, "
        f"{sweep.resolution} px, top-1 accuracy"
    )
    return Row(cells, f"{here}: not comparable with the paper ({', '.join(reasons)})", marks={4: ON_SCORED})
