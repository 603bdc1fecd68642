"""Registry of heads, and `Classifier`, which combines a backbone, a head, labels and preprocessing.

A head computes logits (B, C) from features (B, d, h, w). A new head requires a class and one line in `HEADS`, or an
entry point of the group `mlrec.heads` in another package. A head has the following attributes:

- `forward` computes the logits.
- `location_scores` computes the scores of the classifier at each location. With average pooling, the logit is the mean
  of the location scores; Figure 1 of the paper uses mean + λ·max.
- `contributions` computes the contribution of each location to the logit; the sum over locations is the logit. A head
  whose logit is not a sum over locations has the method `label_attention` instead; see `query_heads`.
- `OPTIONS` lists the names of the constructor options.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
from torch import Tensor, nn

from mlrec.config import resolve_temperatures
from mlrec.models.backbones import Backbone
from mlrec.models.csra import FeatureLayout, at_least_float32, channel_dropout
from mlrec.models.preprocessing import Preprocessing
from mlrec.utils.errors import ModelError, counted
from mlrec.utils.names import duplicates_in
from mlrec.utils.plugins import find_part

if TYPE_CHECKING:
    from mlrec.models.csra import CSRA, SpatialAttention
    from mlrec.models.gcn import GraphConvolution, LabelGraph
    from mlrec.models.query_heads import AttentionPooling, MLDecoder, Query2Label


class AveragePooling(nn.Module):
    """Global average pooling and a linear classifier with bias, which is the baseline in the paper.

    Args:
        in_features: Number of feature channels d.
        num_labels: Number of labels C.
        dropout: Fraction of feature channels dropped in training, with one mask per image for all locations.
        layout, prefix_tokens: Shape of the features; see `CSRA`.
    """

    OPTIONS: ClassVar[tuple[str, ...]] = ("dropout",)

    def __init__(
        self,
        in_features: int,
        num_labels: int,
        *,
        dropout: float = 0.0,
        layout: str = "nchw",
        prefix_tokens: int = 0,
    ) -> None:
        super().__init__()
        self.layout = FeatureLayout(in_features, layout, prefix_tokens)
        self.dropout = channel_dropout(dropout)
        self.linear = nn.Linear(in_features, num_labels)

    def forward(self, features: Tensor) -> Tensor:
        """Compute the logits (B, C) of `features`, which have the shape of `layout`."""
        features = self.layout.to_nchw(features)
        return at_least_float32(self.linear(self.dropout(features).mean((2, 3))))

    def location_scores(self, features: Tensor) -> Tensor:
        """Compute the scores of the classifier, including the bias, at each location; shape (B, C, N)."""
        features = self.layout.to_nchw(features)
        locations = self.dropout(features).flatten(2).transpose(1, 2)
        return at_least_float32(self.linear(locations).transpose(1, 2))

    def contributions(self, features: Tensor) -> Tensor:
        """Compute the contribution of each location to the logit: the score divided by N; shape (B, C, N)."""
        scores = self.location_scores(features)
        return scores / scores.shape[-1]


if TYPE_CHECKING:
    Head = CSRA | SpatialAttention | AveragePooling | GraphConvolution | AttentionPooling | MLDecoder | Query2Label

# Module and class for each head name in `mlrec.config.PARTS`; the module is imported when the head is used.
HEADS = {
    "csra": "mlrec.models.csra:CSRA",
    "spatial": "mlrec.models.csra:SpatialAttention",
    "average": "mlrec.models.classifier:AveragePooling",
    "gcn": "mlrec.models.gcn:GraphConvolution",
    "attention-pool": "mlrec.models.query_heads:AttentionPooling",
    "ml-decoder": "mlrec.models.query_heads:MLDecoder",
    "q2l": "mlrec.models.query_heads:Query2Label",
}


def create_head(name: str, in_features: int, num_labels: int, **options: Any) -> Head:
    """Create a head; options that this head does not have are ignored.

    Raises:
        ModelError: The name is unknown, a value is out of range, or a head from another package fails or returns
            logits of the wrong shape.
    """
    kind = find_part("head", name, HEADS, ModelError)
    own = {key: value for key, value in options.items() if key in getattr(kind, "OPTIONS", ())}
    if name in HEADS:
        head: Head = kind(in_features, num_labels, **own)
        return head
    try:
        head = kind(in_features, num_labels, **own)
        logits = head.eval()(torch.zeros(2, in_features, 3, 4))
        head.train()
    except Exception as error:
        raise ModelError(f"head '{name}': {type(error).__name__}: {error}") from error
    if tuple(logits.shape) != (2, num_labels):
        raise ModelError(
            f"head '{name}' returns logits of shape {tuple(logits.shape)} for 2 images and {num_labels} labels; return "
            f"logits of shape (2, {num_labels})"
        )
    return head


def check_has_maps(head: nn.Module) -> None:
    """Check that a head has the methods for attention maps and for applying λ at test time.

    Raises:
        ModelError: The head has no method `location_scores` or `contributions`.
    """
    for method in ("location_scores", "contributions"):
        if not callable(getattr(head, method, None)):
            raise ModelError(
                f"this command requires a head with the method {method}, but {type(head).__name__} has none; use a "
                "different head"
            )


@dataclass(frozen=True)
class Architecture:
    """Constructor arguments of a model, stored with its weights.

    Attributes:
        backbone: timm model name with the weights tag.
        num_labels: Number of labels C.
        head: Name of the head; see `HEADS`.
        heads: Number of CSRA heads H; equal to the number of `temperatures`.
        lam: Weight λ of the attention (Eq. 5).
        normalize: See `CSRA`.
        temperatures: Temperature of each head.
        img_size: Input side length in pixels for which the backbone was built.
        head_dropout: Fraction of feature channels dropped in training.
        logit_scale: Scale factor of the logits.
        pooling: Pooling in the gcn head.
        word_dim: Dimension of the word vectors in the gcn head; None without a label graph.
        decoder_dim: Width of the attention-pool, ml-decoder and q2l heads; None for the default of the head.
        decoder_layers: Number of decoder layers in the q2l head.
        query_groups: Maximum number of queries in the ml-decoder head.
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
        """Return the arguments as JSON-compatible values; an infinite temperature becomes "inf"."""
        return asdict(self) | {"temperatures": ["inf" if math.isinf(t) else t for t in self.temperatures]}


class Classifier(nn.Module):
    """Multi-label classifier that computes logits (B, C) from normalized images (B, 3, H, W).

    Attributes:
        backbone: Module that computes the features (B, d, h, w) of images.
        head: Module that computes the logits (B, C) from the features.
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
        backbone: timm model name, with or without a weights tag.
        num_labels: Number of labels C.
        head: Name of the head: a key in `HEADS`, or the name of a head from another package.
        heads: Number of CSRA heads H [default: the number of `temperatures` if they are set, otherwise 1].
        lam: Weight λ of the attention (Eq. 5).
        pretrained: Whether to load the weights of the backbone from the model hub.
        normalize: See `CSRA`.
        temperatures: See `CSRA`.
        img_size: Side length of the input in pixels [default: the native size of the backbone].
        head_dropout: Fraction of feature channels dropped in training.
        logit_scale: Scale factor of the logits; see `scale` in `CSRA`.
        weights: Backbone weights that are used instead of weights from the hub; see `source` in
            `weights.load_backbone_weights`.
        labels: C label names [default: "0", "1", ...].
        pooling: Pooling in the gcn head, "max" or "average".
        graph: Label graph, required for the gcn head and created by `gcn.label_graph` from the training split.
        decoder_dim: Width of the attention-pool, ml-decoder and q2l heads [default: d, 768 and 512, respectively].
        decoder_layers: Number of decoder layers in the q2l head.
        query_groups: Maximum number of queries in the ml-decoder head.

    Raises:
        ModelError: A name is unknown, a value is out of range, the number of labels is not `num_labels`, a label is
            repeated, the gcn head has no graph, or weights cannot be loaded or do not match the model.

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
        raise ModelError(f"label '{repeated[0]}' is listed twice; remove one")
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
                "the gcn head requires a label graph; use label_graph to create one from the training targets"
            )
        cast("GraphConvolution", head_module).set_graph(graph)
    return Classifier(backbone_module, head_module, names, backbone_module.preprocessing, architecture)
