"""The paper's ablations as sweeps: Tables 6-8, Figure 5, and the fair comparison of CSRA with its baseline.

Defaults are the paper's for that table; a flag replaces them. Controls that the paper lacks are marked as such.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlrec.config import Config
from mlrec.errors import UsageError, nearest, printable
from mlrec.sweeps.grid import Variant

SEEDS = (0, 1, 2)
HEADS = (1, 2, 4, 6, 8)
LAMBDAS = (0.0, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.5, 2.0)
HEAD_LR_MULTS = (0.1, 0.3, 1.0, 3.0, 10.0)  # times the recipe's own, when each variant is to have its best


@dataclass(frozen=True)
class Study:
    """What a study trains, before it is crossed with the user's axes and seeds.

    Attributes:
        title: of its table.
        defaults: keys of `Config` for all runs; what the user gives wins over them.
        variants: the rows.
        axes: further axes.
        tune: an axis whose value is chosen for each variant alone, on data held out from training.
        notes: footnotes of its table.
    """

    title: str
    defaults: Mapping[str, Any] = field(default_factory=dict)
    variants: Sequence[Variant] = (Variant(),)
    axes: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    tune: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    notes: Sequence[str] = ()


# λ and H of the paper's own rows: ResNet-cut for Tables 6 and 7, ResNet-101 for Table 8.
DEFAULTS: dict[str, dict[str, Any]] = {
    "table6": {"heads": 1, "lam": 0.4},
    "table7": {"head": "csra", "lam": 0.4},
    "table8": {"head": "csra", "lam": 0.5, "eval_every": 1},
    "figure5": {"head": "csra", "heads": 1},
    "compare": {},
}


def check(name: str) -> None:
    """Raise UsageError unless there is a study called `name`."""
    if name not in DEFAULTS:
        raise UsageError(f"--study {printable(name)}: there are {', '.join(DEFAULTS)}{nearest(name, DEFAULTS)}")


def study(name: str, base: Config) -> Study:
    """The study called `name`; `base` is the config of a CSRA run with its defaults and the user's flags."""
    defaults = DEFAULTS[name]
    if name == "table6":
        return Study("Table 6: average and spatial pooling", defaults, _poolings())
    if name == "table7":
        return Study("Table 7: number of heads", defaults, [*_heads(), *_controls()], notes=(_CONTROLS_NOTE,))
    if name == "table8":
        tune = {"head_lr_mult": [round(base.head_lr_mult * factor, 12) for factor in HEAD_LR_MULTS]}
        return Study("Table 8: normalised classifier", defaults, _normalised(), tune=tune)
    if name == "figure5":
        return Study("Figure 5: mAP against λ, each a training of its own", defaults, axes={"lam": LAMBDAS})
    return Study("CSRA beside its baseline, under one recipe", defaults, _fair(base))


def _poolings() -> list[Variant]:
    return [
        Variant("average only", {"head": "csra", "lam": 0.0}),
        Variant("spatial only", {"head": "spatial"}),
        Variant("average + spatial", {"head": "csra"}),
    ]


_CONTROLS_NOTE = (
    "controls, not in the paper: H heads that all have T = 1, and one head whose logits are multiplied by H; "
    "what they gain is not due to different temperatures, or not due to several classifiers"
)


def _heads() -> list[Variant]:
    return [Variant(f"H = {count}", {"heads": count}) for count in HEADS]


def _controls() -> list[Variant]:
    several = [count for count in HEADS if count > 1]
    equal = [Variant(f"H = {n}, all T = 1", {"heads": n, "temperatures": [1.0] * n}) for n in several]
    scaled = [Variant(f"H = 1, logits x {n}", {"heads": 1, "logit_scale": float(n)}) for n in several]
    return equal + scaled


def _normalised() -> list[Variant]:
    return [
        Variant(f"H = {count}, {'with' if on else 'without'}", {"heads": count, "normalize": on})
        for count in (2, 4)
        for on in (True, False)
    ]


def _fair(base: Config) -> list[Variant]:
    return [Variant(FAIR_LABELS[row], flags) for row, flags in fair_rows(base.head_lr_mult).items()]


FAIR_LABELS = {
    "baseline": "baseline",
    "baseline-lr": "baseline, CSRA's head lr",
    "csra-lam0": "CSRA, λ = 0",
    "csra": "CSRA",
}


def fair_rows(head_lr_mult: float) -> dict[str, dict[str, Any]]:
    """What each row of a fair comparison sets; all else is the recipe's, the same for all.

    The paper's baseline learns its head ten times slower than CSRA does and has another classifier. Two rows in between
    tell these apart from the attention: the baseline at CSRA's learning rate, and CSRA with λ = 0.

    Args:
        head_lr_mult: that of CSRA.
    """
    return {
        "baseline": {"head": "average", "head_lr_mult": 1.0},
        "baseline-lr": {"head": "average", "head_lr_mult": head_lr_mult},
        "csra-lam0": {"head": "csra", "lam": 0.0, "head_lr_mult": head_lr_mult},
        "csra": {"head": "csra"},
    }
