"""mlrec: multi-label image recognition with class-specific residual attention (CSRA).

Data flow: annotations → `Manifest` → model → `Predictions` → `Metrics` → `RunRecord` → `Table`. Importing this package
does not import torch, because public names are loaded on first use.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlrec.api import attention, evaluate_run, load_run, train
    from mlrec.datasets.manifest import Manifest
    from mlrec.metrics.evaluate import evaluate
    from mlrec.metrics.metric import Metric
    from mlrec.metrics.summary import Metrics
    from mlrec.models.checkpoint import load_model
    from mlrec.models.classifier import create_model
    from mlrec.models.csra import CSRA
    from mlrec.predictions import Predictions
    from mlrec.run_folders.record import Run
    from mlrec.training.torch_objects import torch_dataset, torch_metric
    from mlrec.utils.errors import MlrecError
    from mlrec.workflows.deploy.predict import predict
    from mlrec.workflows.evaluate.attend import AttentionMaps
    from mlrec.workflows.report.frames import compare, report, runs, stats
    from mlrec.workflows.train.run_record import TrainEvent

__version__ = "0.1.0"

logging.getLogger("mlrec").addHandler(
    logging.NullHandler()
)  # nothing is printed unless the application configures logging

_HOME = {
    "AttentionMaps": "mlrec.workflows.evaluate.attend",
    "CSRA": "mlrec.models.csra",
    "Manifest": "mlrec.datasets.manifest",
    "Metric": "mlrec.metrics.metric",
    "Metrics": "mlrec.metrics.summary",
    "MlrecError": "mlrec.utils.errors",
    "Predictions": "mlrec.predictions",
    "Run": "mlrec.run_folders.record",
    "TrainEvent": "mlrec.workflows.train.run_record",
    "attention": "mlrec.api",
    "compare": "mlrec.workflows.report.frames",
    "create_model": "mlrec.models.classifier",
    "evaluate": "mlrec.metrics.evaluate",
    "evaluate_run": "mlrec.api",
    "load_model": "mlrec.models.checkpoint",
    "load_run": "mlrec.api",
    "predict": "mlrec.workflows.deploy.predict",
    "report": "mlrec.workflows.report.frames",
    "runs": "mlrec.workflows.report.frames",
    "stats": "mlrec.workflows.report.frames",
    "torch_dataset": "mlrec.training.torch_objects",
    "torch_metric": "mlrec.training.torch_objects",
    "train": "mlrec.api",
}

__all__ = [
    "CSRA",
    "AttentionMaps",
    "Manifest",
    "Metric",
    "Metrics",
    "MlrecError",
    "Predictions",
    "Run",
    "TrainEvent",
    "__version__",
    "attention",
    "compare",
    "create_model",
    "evaluate",
    "evaluate_run",
    "load_model",
    "load_run",
    "predict",
    "report",
    "runs",
    "stats",
    "torch_dataset",
    "torch_metric",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'mlrec' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
