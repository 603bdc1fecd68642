"""The paper's names for backbones and methods."""

from __future__ import annotations

from typing import Any

from mlrec.config import FIELDS, PARTS

BACKBONES = {  # name in timm without the tag of the weights → name in the paper
    "resnet50": "ResNet-50",
    "resnet101": "ResNet-101",
    "vit_base_patch16_224": "ViT-B/16",
    "vit_base_patch16_384": "ViT-B/16",
    "vit_large_patch16_224": "ViT-L/16",
    "vit_large_patch16_384": "ViT-L/16",
    "mobilenetv2_100": "MobileNetV2",
    "efficientnet_b3": "EfficientNet-B3",
    "tf_efficientnet_b3": "EfficientNet-B3",
    "tf_efficientnet_lite0": "EfficientNet-Lite0",
    "tf_efficientnet_lite1": "EfficientNet-Lite1",
    "tf_efficientnet_lite2": "EfficientNet-Lite2",
}
CUTMIX = "ResNet-101 (CutMix)"
# One spelling for methods that the tables of the paper spell differently.
METHODS = {"ViT-B16": "ViT-B/16", "ViT-L16": "ViT-L/16"} | {
    f"ViT-{size}16 + CSRA{star}": f"ViT-{size}/16 + CSRA{star}" for size in "BL" for star in ("", "*")
}
HEADS = {
    "average": "",
    "csra": " + CSRA",
    "spatial": " + CSRA, spatial only",
    "gcn": " + GCN",
    "max": " + max pooling",
} | {
    "attention-pool": " + attention pooling",
    "ml-decoder": " + ML-Decoder",
    "q2l": " + Query2Label",
}
HEAD_ORDER = ("average", "max", "attention-pool", "gcn", "ml-decoder", "q2l", "spatial", "csra")


def backbone_name(config: dict[str, Any], *, cutmix: bool = False) -> str:
    """Return the paper's name for a backbone, or the timm name if the paper has none.

    Args:
        config: Configuration keys of a run.
        cutmix: Whether the run started from CutMix weights. The paper calls a ResNet-101 with these weights ResNet-cut.

    Example:
        >>> backbone_name({"backbone": "vit_base_patch16_224.augreg_in21k"})
        'ViT-B/16'
    """
    plain = str(config.get("backbone", "")).split(".")[0]
    if plain == "resnet101" and cutmix:
        return CUTMIX
    return BACKBONES.get(plain, plain)


def method_name(config: dict[str, Any], *, cutmix: bool = False) -> str:
    """Return the name of a method in the paper's tables; see `backbone_name` for the arguments.

    Example:
        >>> method_name({"backbone": "resnet101", "head": "csra"})
        'ResNet-101 + CSRA'
    """
    head = str(config.get("head", ""))
    name = backbone_name(config, cutmix=cutmix) + HEADS.get(head, f" + {head}")
    if head in ("csra", "spatial") and config.get("normalize") is False:
        name += ", unnormalised classifier"  # as in paper_results.csv
    return ", ".join(filter(None, [name, variation(config)]))


def variation(config: dict[str, Any]) -> str:
    """Describe the temperatures of a CSRA head if they are set, and the logit scale if it is not 1.

    For a head from another package, the options that differ from their defaults are listed. For all other heads, the
    result is "".

    Args:
        config: Configuration keys of a run.

    Example:
        >>> variation({"head": "csra", "temperatures": [1.0, 1.0]})
        'all T = 1'
    """
    head = config.get("head")
    if head not in (None, *PARTS["head"]):
        return _added_head(config)
    if head not in ("csra", "spatial"):
        return ""
    parts = []
    temperatures = [temperature_text(value) for value in config.get("temperatures") or ()]
    if len(temperatures) > 1 and len(set(temperatures)) == 1:
        parts.append(f"all T = {temperatures[0]}")
    elif temperatures:
        parts.append(f"T = {' '.join(temperatures)}")
    scale = config.get("logit_scale") or 1
    if scale != 1:
        parts.append(f"logits × {scale:g}")
    return ", ".join(parts)


def _added_head(config: dict[str, Any]) -> str:
    """Return the options of a third-party head that differ from their defaults."""
    keys = ("heads", "lam", "temperatures", "normalize", "logit_scale", "pooling")
    given = {key: config[key] for key in keys if key in config and config[key] != FIELDS[key].default}
    return ", ".join(f"{key} {value}" for key, value in given.items())


def temperature_text(value: float | str) -> str:
    """Format a temperature as printed in tables.

    Example:
        >>> temperature_text(2.0), temperature_text("inf")
        ('2', '∞')
    """
    return f"{float(value):g}".replace("inf", "∞")
