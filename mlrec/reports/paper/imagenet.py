"""The ImageNet rows of Table 1: a published classifier with λ times the maximum added, on a folder of class folders."""

from __future__ import annotations

from pathlib import Path, PurePath

import msgspec

from mlrec.reports.paper.method_names import backbone_name
from mlrec.reports.paper.published import paper_rows
from mlrec.reports.paper.table1 import ON_SCORED, ON_SCORED_NOTE, Gain, table1_cells, table1_group
from mlrec.reports.render.table import Column, Row, Table, shown
from mlrec.reports.settings import PAPER_WEIGHTS
from mlrec.utils.errors import RunError, counted, printable
from mlrec.utils.files import read_bytes

FILE = "accuracy.json"
IMAGENET = (50_000, 1000)  # images and classes of the validation set
COLUMNS = (
    Column("logits", "Logits", identity=True),
    Column("lam", "λ", "number", absent=""),
    Column("top1", "top-1", "percent"),
    Column("top5", "top-5", "percent"),
    Column("difference", "Δ top-1", "points", absent=""),
    Column("interval", "95 %", absent=""),
)
TOKEN_NOTE = "it classifies its class token: the mean over its patches is another classifier, and λ = 0 is that one"  # noqa: S105


class AccuracySweep(msgspec.Struct, frozen=True):
    """Accuracy of one published classifier at many λ: the content of `accuracy.json`.

    Attributes:
        backbone: timm's name with the tag of the weights; without it where they are of the file or package `weights`.
        resolution: side of the input in pixels.
        data, samples, classes: the folder, its images, and how many classes have some.
        class_token: the published logits are those of the class token.
        published: top-1 and top-5 of the logits as published.
        lams, top1, top5: at each λ; λ = 0 is the mean over locations.
        fixed_lam, best_lam: fixed beforehand; the best on these very images.
        gain, fixed_gain: of top-1 over λ = 0, see `AccuracyGains`.
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
        """The backbone, and the file of its weights where there is one."""
        return f"{self.backbone} of {printable(PurePath(self.weights).name)}" if self.weights else self.backbone

    @classmethod
    def load(cls, path: Path) -> AccuracySweep:
        """Read `accuracy.json`.

        Raises:
            RunError: it is not such a file.
        """
        try:
            return msgspec.json.decode(read_bytes(path, RunError), type=cls)
        except msgspec.MsgspecError as error:
            raise RunError(f"{printable(path)}: {printable(error)}; not what mlrec eval --backbone writes") from error

    def at(self, lam: float) -> tuple[float, float]:
        """Top-1 and top-5 at a λ of the grid."""
        place = self.lams.index(lam)
        return self.top1[place], self.top5[place]


def accuracy_table(sweep: AccuracySweep) -> Table:
    """As published, λ = 0 where that is another, the fixed λ and the best."""
    rows = [Row(("as published", None, *sweep.published, None, None))]
    if sweep.class_token:
        rows.append(Row(("mean over patches", 0.0, *sweep.at(0.0), None, None)))
    rows += [
        _row(sweep, "mean + λ · maximum, fixed", sweep.fixed_lam, sweep.fixed_gain),
        _row(sweep, f"mean + λ · maximum, best {ON_SCORED}", sweep.best_lam, sweep.gain),
    ]
    notes = [
        f"{counted(sweep.samples, 'image')} of {counted(sweep.classes, 'class', 'classes')}, {sweep.resolution} "
        f"px, {counted(len(sweep.lams), 'value')} of λ"
    ]
    notes += [ON_SCORED_NOTE, *([TOKEN_NOTE] if sweep.class_token else [])]
    return Table(f"{sweep.called} as published on {sweep.data}", COLUMNS, tuple(rows), tuple(notes))


def _row(sweep: AccuracySweep, name: str, lam: float, gain: Gain) -> Row:
    between = f"{shown(gain.low, 'points')} to {shown(gain.high, 'points')}"
    return Row((name, lam, *sweep.at(lam), gain.value, between))


def accuracy_row(sweep: AccuracySweep) -> Row:
    """The row of Table 1: λ = 0, the best and the fixed λ; away from the paper's where the images are others."""
    numbers = [sweep.at(lam)[0] for lam in (0.0, sweep.best_lam, sweep.fixed_lam)]
    name = backbone_name({"backbone": sweep.backbone})
    cells = table1_cells(
        name, "own", sweep.resolution, numbers, (sweep.best_lam, sweep.fixed_lam), sweep.called, sweep.fixed_gain
    )
    printed = {row.resolution for row in paper_rows(1) if row.dataset == "imagenet"}
    architecture, _, tag = sweep.backbone.partition(".")
    why = [] if (sweep.samples, sweep.classes) == IMAGENET else ["other images"]
    why += [] if sweep.resolution in printed else ["other size"]
    why += [] if tag in PAPER_WEIGHTS.get(architecture, (tag,)) else [f"weights {tag or 'of a file'}"]
    if not why:
        return Row(cells, table1_group("imagenet"), marks={4: ON_SCORED})
    here = (
        f"{sweep.data}, {counted(sweep.samples, 'image')} of {counted(sweep.classes, 'class', 'classes')}, "
        f"{sweep.resolution} px, top-1 accuracy"
    )
    return Row(cells, f"{here}: not comparable with the paper's, {', '.join(why)}", marks={4: ON_SCORED})
