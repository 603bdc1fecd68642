"""Predefined sweeps: the paper's ablations, CSRA compared with the baseline, and all heads.

The ablations reproduce Tables 6-8 and Figure 5 of the paper. By default, each ablation uses the paper's λ and number
of heads, unless they are varied; command-line flags override these values. Control experiments that are not in the
paper are marked as such, and are excluded by `paper_only`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlrec.config import Config
from mlrec.utils.errors import UsageError, nearest

SEEDS = (0, 1, 2)  # of each variant, unless `paper_only` is set
HEADS = (1, 2, 4, 6, 8)
LAMBDAS = (0.0, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.5, 2.0)
HEAD_LRS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)  # learning rates that each head of the study "heads" chooses from
HEAD_LR_MULTS = (0.1, 0.3, 1.0, 3.0, 10.0)  # factors of the recipe's multiplier, if each variant is tuned
BASELINE, CSRA = "baseline", "CSRA"
STEPS = (BASELINE, "baseline, CSRA's head lr", "CSRA, λ = 0")  # what CSRA is compared with, one by one

Flags = Mapping[str, Any]


@dataclass(frozen=True)
class Study:
    """Definition of a study: the runs of a table or figure, before the user's axes and seeds are added.

    Attributes:
        title: Title of the table.
        defaults: Values of `Config` keys for all runs; the user's flags override these values.
        variants: Rows of the table, as a dict from label to the `Config` keys that the row sets.
        axes: Keys with the values to combine with each variant.
        tune: Key with the values to try; the best value is chosen separately for each variant, on data held out from
            training.
        notes: Footnotes of the table.
    """

    title: str
    defaults: Flags = field(default_factory=dict)
    variants: Mapping[str, Flags] = field(default_factory=lambda: {"": {}})
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
    # one recipe on cached features; the heads with queries are narrow, so that a CPU can train them
    "heads": {
        "freeze_backbone": True,
        "opt": "adamw",
        "lr_schedule": "cosine",
        "epochs": 20,
        "batch_size": 32,
        "head_lr_mult": 1.0,
        "lam": 0.5,
        "decoder_dim": 256,
    },
}

NOT_IN_PAPER = ("compare", "heads")  # studies without a table or figure of their own in the paper


def check(name: str | None, *, paper_only: bool = False) -> None:
    """Raise UsageError if the study is unknown, or is not in the paper although `paper_only` is set."""
    if name is not None and name not in DEFAULTS:
        raise UsageError(f"--study {name}: use {', '.join(DEFAULTS)}{nearest(name, DEFAULTS)}")
    of_paper = [key for key in DEFAULTS if key not in NOT_IN_PAPER]
    if paper_only and name not in of_paper:
        raise UsageError(f"--paper-only requires --study {', '.join(of_paper)}")


def study(name: str, base: Config, *, paper_only: bool = False) -> Study:
    """Return the study with the given name.

    Args:
        name: Name of the study, a key in `DEFAULTS`.
        base: Configuration of a CSRA run that uses the study defaults and the user's flags.
        paper_only: Whether to include only the runs in the paper's table or figure. Control experiments are then
            omitted, and no learning rate is chosen per row.
    """
    defaults = DEFAULTS[name]
    if name == "table6":
        return Study("Table 6: average and spatial pooling", defaults, _poolings(paper_only=paper_only))
    if name == "table7" and paper_only:
        return Study("Table 7: number of heads", defaults, _heads())
    if name == "table8" and paper_only:
        return Study("Table 8: normalized classifier", defaults, _normalized())
    if name == "table7":
        return Study("Table 7: number of heads", defaults, _heads() | _controls(), notes=(_CONTROLS_NOTE,))
    if name == "table8":
        tune = {"head_lr_mult": [round(base.head_lr_mult * factor, 12) for factor in HEAD_LR_MULTS]}
        return Study("Table 8: normalized classifier", defaults, _normalized(), tune=tune)
    if name == "figure5":
        return Study("Figure 5: mAP against λ, one training per value", defaults, axes={"lam": LAMBDAS})
    if name == "heads":
        note = "each head uses the learning rate that is best on a held-out part of the training split"
        return Study("All heads under one recipe", defaults, _all_heads(), tune={"lr": HEAD_LRS}, notes=(note,))
    return Study("CSRA compared with its baseline, under one recipe", defaults, compared_rows(base.head_lr_mult))


def _poolings(*, paper_only: bool) -> dict[str, Flags]:
    """Return the rows of Table 6, one per pooling method.

    The row "average only" uses the same classifier as the other rows. With `paper_only`, the row uses the classifier
    of the paper's baseline.
    """
    average: Flags = {"head": "csra", "lam": 0.0}
    if paper_only:
        average = {"head": "average"}
    return {
        "average only": average,
        "spatial only": {"head": "spatial"},
        "average + spatial": {"head": "csra"},
    }


_CONTROLS_NOTE = (
    "controls (not in the paper): H heads that all have T = 1, and one head whose logits are multiplied by H. If the "
    "first control gains as much as H heads with different temperatures, the gain is not due to the temperatures. If "
    "the second control gains as much, the gain is not due to multiple classifiers"
)


def _heads() -> dict[str, Flags]:
    return {f"H = {heads}": {"heads": heads} for heads in HEADS}


def _controls() -> dict[str, Flags]:
    several = [heads for heads in HEADS if heads > 1]
    equal = {f"H = {n}, all T = 1": {"heads": n, "temperatures": [1.0] * n} for n in several}
    scaled = {f"H = 1, logits x {n}": {"heads": 1, "logit_scale": float(n)} for n in several}
    return {**equal, **scaled}


def _normalized() -> dict[str, Flags]:
    rows: dict[str, Flags] = {}
    for heads in (2, 4):
        rows[f"H = {heads}, with"] = {"heads": heads, "normalize": True}
        rows[f"H = {heads}, without"] = {"heads": heads, "normalize": False}
    return rows


def _all_heads() -> dict[str, Flags]:
    return {
        "average pooling": {"head": "average"},
        "CSRA, λ = 0": {"head": "csra", "heads": 1, "lam": 0.0},
        "CSRA, H = 1": {"head": "csra", "heads": 1},
        "CSRA, H = 6": {"head": "csra", "heads": 6},
        "spatial attention": {"head": "spatial"},
        "GCN": {"head": "gcn"},
        "attention pooling": {"head": "attention-pool"},
        "ML-Decoder": {"head": "ml-decoder"},
        "Query2Label": {"head": "q2l"},
    }


def compared_rows(head_lr_mult: float) -> dict[str, Flags]:
    """Return the configuration keys that each row of the comparison sets.

    All other keys come from the recipe. In the paper, the baseline has a different classifier, and its head is trained
    with a tenth of CSRA's learning rate. Two additional rows separate the effects of the classifier and the learning
    rate from the effect of the attention: the baseline with CSRA's learning rate, and CSRA with λ = 0.

    Args:
        head_lr_mult: Head learning-rate multiplier for CSRA.
    """
    return {
        STEPS[0]: {"head": "average", "head_lr_mult": 1.0},
        STEPS[1]: {"head": "average", "head_lr_mult": head_lr_mult},
        STEPS[2]: {"head": "csra", "lam": 0.0, "head_lr_mult": head_lr_mult},
        CSRA: {"head": "csra"},
    }
