"""`Classifier`: a backbone and a head, with labels and preprocessing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from mlrec.datasets.names import duplicates_in
from mlrec.models.backbones import Backbone
from mlrec.models.heads import create_head
from mlrec.models.preprocessing import Preprocessing
from mlrec.temperatures import resolve_temperatures
from mlrec.utils.errors import ModelError, counted

if TYPE_CHECKING:
    from mlrec.models.gcn import GraphConvolution, LabelGraph
    from mlrec.models.heads import Head


@dataclass(frozen=True)
class Architecture:
    """Constructor arguments of a model, stored with its weights.

    Attributes:
        backbone: timm name with the weights tag.
        num_labels: Number of labels C.
        head: Name of the head, see `HEADS`.
        heads: Number of CSRA heads H; equal to the number of `temperatures`.
        lam: Weight λ of the attention (Eq. 5).
        normalize: See `CSRA`.
        temperatures: Temperature of each head.
        img_size: Input side length in pixels for which the backbone was built.
        head_dropout: Fraction of feature channels dropped in training.
        logit_scale: Scale factor of the logits.
        pooling: Pooling in the gcn head.
        word_dim: Dimension of the word vectors in the gcn head.
        decoder_dim: Width of the attention-pool, ml-decoder and q2l heads.
        decoder_layers: Number of decoder layers in the q2l head.
        query_groups: Number of queries in the ml-decoder head.
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
    decoder_dim: int | None = None
    decoder_layers: int = 2
    query_groups: int = 100

    def build_head(self, in_features: int) -> Head:
        """Create the head with random weights, for features with `in_features` channels."""
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
            decoder_dim=self.decoder_dim,
            layers=self.decoder_layers,
            groups=self.query_groups,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-compatible values; an infinite temperature is "inf"."""
        return asdict(self) | {"temperatures": ["inf" if math.isinf(t) else t for t in self.temperatures]}


class Classifier(nn.Module):
    """Multi-label classifier: normalized images (B, 3, H, W) → logits (B, C).

    Attributes:
        backbone: Module that computes the features (B, d, h, w) of images.
        head: Features → logits.
        labels: C label names, in the order of the logits.
        preprocessing: Preprocessing of the input images.
        architecture: Constructor arguments of the model.
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
        """Compute the logits (B, C) of normalized `images` (B, 3, H, W).

        Under autocast, only the backbone runs in half precision. Logits in bf16 would have only 8 significant bits, so
        many samples would have equal scores.
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
    decoder_dim: int | None = None,
    decoder_layers: int = 2,
    query_groups: int = 100,
) -> Classifier:
    """Create a multi-label classifier from any timm model with a spatial feature map.

    Args:
        backbone: timm name, with or without a weights tag.
        num_labels: Number of labels C.
        head: Name of the head, a key in `HEADS`.
        heads: Number of CSRA heads H [default: the number of `temperatures` if they are set, otherwise 1].
        lam: Weight λ of the attention (Eq. 5).
        pretrained: Whether to load the weights of the backbone from the model hub.
        normalize: See `CSRA`.
        temperatures: See `CSRA`.
        img_size: Side length of the input in pixels [default: the native size of the backbone].
        head_dropout: Fraction of feature channels dropped in training.
        logit_scale: Scale factor of the logits, see `scale` in `CSRA`.
        weights: Backbone weights that replace the weights from the hub: a file, or a name in
            `weight_packages.PACKAGES`.
        labels: C label names [default: "0", "1", ...].
        pooling: Pooling in the gcn head, "max" or "average".
        graph: Label graph for the gcn head, created by `gcn.label_graph` from the training split.
        decoder_dim: Width of the attention-pool, ml-decoder and q2l heads [default: d, 768 and 512, respectively].
        decoder_layers: Number of decoder layers in the q2l head.
        query_groups: Number of queries in the ml-decoder head.

    Raises:
        ModelError: A name is unknown, a value is out of range, or weights cannot be loaded or do not match the model.

    Example:
        >>> model = create_model("test_resnet", 3, heads=2, img_size=64, labels=["cat", "dog", "person"]).eval()
        >>> model(torch.zeros(1, 3, 64, 64)).shape, model.labels
        (torch.Size([1, 3]), ('cat', 'dog', 'person'))
    """
    names = tuple(labels) if labels is not None else tuple(map(str, range(num_labels)))
    if len(names) != num_labels:
        raise ModelError(
            f"got {counted(len(names), 'label name')} for num_labels = {num_labels}; pass one name per label"
        )
    repeated = duplicates_in(names)
    if repeated:
        raise ModelError(f"label '{repeated[0]}' is listed twice; keep one")
    temperatures = resolve_temperatures(heads, temperatures)
    backbone_module = Backbone(backbone, img_size, pretrained=pretrained and weights is None)
    if weights is not None:
        from mlrec.models.weights import load_backbone_weights

        backbone_module.origin = load_backbone_weights(backbone_module, weights)
    architecture = Architecture(
        backbone=backbone_module.name,
        num_labels=num_labels,
        head=head,
        heads=len(temperatures),
        lam=lam,
        normalize=normalize,
        temperatures=temperatures,
        img_size=backbone_module.preprocessing.size,
        head_dropout=head_dropout,
        logit_scale=logit_scale,
        pooling=pooling,
        word_dim=None if graph is None else graph.words.shape[1],
        decoder_dim=decoder_dim,
        decoder_layers=decoder_layers,
        query_groups=query_groups,
    )
    head_module = architecture.build_head(backbone_module.num_features)
    if head == "gcn":
        if graph is None:
            raise ModelError(
                "the gcn head requires a label graph; create it with label_graph from the training targets"
            )
        cast("GraphConvolution", head_module).set_graph(graph)
    return Classifier(backbone_module, head_module, names, backbone_module.preprocessing, architecture)
