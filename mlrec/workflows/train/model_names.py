"""Names of backbones and weights, checked before torch is imported or data is opened."""

from __future__ import annotations

import importlib.util
import re
from functools import cache
from pathlib import Path

from mlrec.config import Config
from mlrec.utils.errors import ModelError
from mlrec.utils.weight_packages import check_weights_name

_REGISTERED = re.compile(r"^@register_model\s*\n(?:@.*\n)*def (\w+)\(", re.MULTILINE)


def check_model_names(config: Config) -> None:
    """Check the backbone, and that weights and the model to start from exist.

    Raises:
        ModelError: an unknown backbone, weights package or file.
    """
    check_backbone_name(config.backbone)
    if config.weights is not None:
        check_weights_name(config.weights)
    if config.init_from is not None and not Path(config.init_from).exists():
        raise ModelError(f"--init-from {config.init_from}: no such run or file")


def check_backbone_name(name: str) -> None:
    """Check the name of a backbone, without its tag.

    Raises:
        ModelError: timm has no such model.
    """
    if name.partition(".")[0] in _names_in_source():
        return
    # timm itself takes seconds to import, but knows the models of other packages, too.
    from mlrec.models.backbones import pretrained_settings

    pretrained_settings(name)


@cache
def _names_in_source() -> frozenset[str]:
    """Model names that timm's source registers, read as text; models of other packages are not among them."""
    spec = importlib.util.find_spec("timm")
    if spec is None or spec.origin is None:
        return frozenset()
    files = (Path(spec.origin).parent / "models").rglob("*.py")
    return frozenset(name for file in files for name in _REGISTERED.findall(file.read_text(encoding="utf-8")))
