"""mlrec: multi-label image recognition with class-specific residual attention (CSRA).

annotations → `Manifest` → model → `Predictions` → `Metrics` → `RunRecord` → `Table`. Importing this package brings
no torch: public names are loaded when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlrec.datasets.manifest import Manifest
    from mlrec.metrics.evaluate import Metrics, evaluate
    from mlrec.metrics.metric import Metric
    from mlrec.models.checkpoint import load_model
    from mlrec.models.classifier import create_model
    from mlrec.models.csra import CSRA
    from mlrec.predictions import Predictions
    from mlrec.training.torch_objects import torch_dataset, torch_metric
    from mlrec.utils.errors import MlrecError
    from mlrec.workflows.deploy.predict import predict
    from mlrec.workflows.report.frames import compare, report, runs, stats

__version__ = "0.1.0"

_HOME = {
    "CSRA": "mlrec.models.csra",
    "Manifest": "mlrec.datasets.manifest",
    "Metric": "mlrec.metrics.metric",
    "Metrics": "mlrec.metrics.evaluate",
    "MlrecError": "mlrec.utils.errors",
    "Predictions": "mlrec.predictions",
    "compare": "mlrec.workflows.report.frames",
    "create_model": "mlrec.models.classifier",
    "evaluate": "mlrec.metrics.evaluate",
    "load_model": "mlrec.models.checkpoint",
    "predict": "mlrec.workflows.deploy.predict",
    "report": "mlrec.workflows.report.frames",
    "runs": "mlrec.workflows.report.frames",
    "stats": "mlrec.workflows.report.frames",
    "torch_dataset": "mlrec.training.torch_objects",
    "torch_metric": "mlrec.training.torch_objects",
}

__all__ = [
    "CSRA",
    "Manifest",
    "Metric",
    "Metrics",
    "MlrecError",
    "Predictions",
    "__version__",
    "compare",
    "create_model",
    "evaluate",
    "load_model",
    "predict",
    "report",
    "runs",
    "stats",
    "torch_dataset",
    "torch_metric",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'mlrec' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
