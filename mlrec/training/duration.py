"""How long a training will take, estimated before it starts."""

from __future__ import annotations

import time

import torch

from mlrec.models.classifier import Classifier
from mlrec.training.devices import Precision, autocast

TRAINING = 3.0  # time of a training step over that of a forward pass: forward, and twice that backward


def seconds_per_image(model: Classifier, device: torch.device, precision: Precision) -> float:
    """Seconds of a forward pass of one image, the faster of two; model and random numbers stay as they are."""
    size, training = model.preprocessing.size, model.training
    image = torch.zeros(1, 3, size, size, device=device)
    seconds = []
    model.eval()
    try:
        for _ in range(2):  # the first sets up what later ones use again
            begun = time.perf_counter()
            with torch.no_grad(), autocast(device, precision):
                model(image)
            seconds.append(time.perf_counter() - begun)
    finally:
        model.train(training)
    return min(seconds)


def training_seconds(per_image: float, samples: int, scored: int, epochs: int, scorings: int) -> float:
    """Seconds of a whole training from those of a forward pass; decoding is not counted."""
    return per_image * (TRAINING * samples * epochs + scored * scorings)
