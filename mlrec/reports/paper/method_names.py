"""The paper's names for backbones and methods."""

from __future__ import annotations

from typing import Any

BACKBONES = {  # timm's name without the tag of its weights → the paper's name
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
# Methods as the paper prints them, where another of its tables prints them otherwise.
METHODS = {"ViT-B16": "ViT-B/16", "ViT-L16": "ViT-L/16"} | {
    f"ViT-{size}16 + CSRA{star}": f"ViT-{size}/16 + CSRA{star}" for size in "BL" for star in ("", "*")
}
HEADS = {"average": "", "csra": " + CSRA", "spatial": " + CSRA, spatial only", "gcn": " + GCN", "max": " + max pooling"}
HEAD_ORDER = ("average", "max", "gcn", "spatial", "csra")


def backbone_name(config: dict[str, Any], *, cutmix: bool = False) -> str:
    """The backbone's name in the paper; timm's name if the paper has none.

    Args:
        config: Keys of a run.
        cutmix: Whether it started from CutMix weights: such a ResNet-101 is the paper's ResNet-cut.
    """
    plain = str(config.get("backbone", "")).split(".")[0]
    return CUTMIX if plain == "resnet101" and cutmix else BACKBONES.get(plain, plain)


def method_name(config: dict[str, Any], *, cutmix: bool = False) -> str:
    """Backbone and head as the paper's tables name a method: "ResNet-101 + CSRA"; arguments as in `backbone_name`."""
    head = str(config.get("head", ""))
    name = backbone_name(config, cutmix=cutmix) + HEADS.get(head, f" + {head}")
    if head in ("csra", "spatial") and config.get("normalize") is False:
        name += ", unnormalised classifier"
    return ", ".join(filter(None, [name, variation(config)]))


def variation(config: dict[str, Any]) -> str:
    """What a CSRA head has that the paper's with as many heads has not: other temperatures, scaled logits; else ""."""
    if config.get("head") not in ("csra", "spatial"):
        return ""
    given = [str(t) if isinstance(t, str) else f"{t:g}" for t in config.get("temperatures") or ()]
    degrees = [text.replace("inf", "∞") for text in given]
    same = len(degrees) > 1 and len(set(degrees)) == 1
    told = f"all T = {degrees[0]}" if same else f"T = {' '.join(degrees)}" if degrees else ""
    scale = config.get("logit_scale") or 1
    return ", ".join(filter(None, [told, f"logits × {scale:g}" if scale != 1 else ""]))
