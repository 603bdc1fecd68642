"""Heads by name: features (B, d, h, w) → logits (B, C).

A new head requires a class and one line in `HEADS`, or an entry point of the group `mlrec.heads` in another package. A
head has the following attributes:

- `forward` computes the logits.
- `location_scores` are the scores of the classifier at each location. The mean of these scores is the logit of average
  pooling, and Figure 1 uses mean + λ·max.
- `contributions` are the contributions of the locations to the logit; the sum over locations is the logit. A head whose
  logit is not a sum over locations has `label_attention` instead, see `query_heads`.
- `OPTIONS` lists the names of the constructor options.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from mlrec.models.csra import FeatureLayout, at_least_float32, channel_dropout
from mlrec.utils.errors import ModelError
from mlrec.utils.plugins import find_part

if TYPE_CHECKING:
    from mlrec.models.csra import CSRA, SpatialAttention
    from mlrec.models.gcn import GraphConvolution
    from mlrec.models.query_heads import AttentionPooling, MLDecoder, Query2Label


class AveragePooling(nn.Module):
    """Global average pooling and a linear classifier with bias, the baseline in the paper.

    Args:
        in_features: Number of feature channels d.
        num_labels: Number of labels C.
        dropout: Fraction of feature channels dropped in training, with one mask per image for all locations.
        layout, prefix_tokens: Shape of the features, see `CSRA`.
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
        """Compute the contribution of each location to the logit: the score divided by N."""
        scores = self.location_scores(features)
        return scores / scores.shape[-1]


if TYPE_CHECKING:
    Head = CSRA | SpatialAttention | AveragePooling | GraphConvolution | AttentionPooling | MLDecoder | Query2Label

# Module and class for each head name in `mlrec.config.PARTS`; the module is imported when the head is used.
HEADS = {
    "csra": "mlrec.models.csra:CSRA",
    "spatial": "mlrec.models.csra:SpatialAttention",
    "average": "mlrec.models.heads:AveragePooling",
    "gcn": "mlrec.models.gcn:GraphConvolution",
    "attention-pool": "mlrec.models.query_heads:AttentionPooling",
    "ml-decoder": "mlrec.models.query_heads:MLDecoder",
    "q2l": "mlrec.models.query_heads:Query2Label",
}


def create_head(name: str, in_features: int, num_labels: int, **options: Any) -> Head:
    """Create a head; unknown options are ignored, so that one set of options can be used for all heads.

    Raises:
        ModelError: The name is unknown, a value is out of range, or a head from another package does not return logits.
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
            f"head '{name}' returns {tuple(logits.shape)} for 2 images and {num_labels} labels; a head must return "
            "logits "
            "(B, C)"
        )
    return head


def check_has_maps(head: nn.Module) -> None:
    """Check that a head has the methods for attention maps and for applying λ at test time.

    Raises:
        ModelError: The head lacks one of these methods.
    """
    for method in ("location_scores", "contributions"):
        if not callable(getattr(head, method, None)):
            raise ModelError(
                f"the head {type(head).__name__} has no method {method}, which this command requires; use a different "
                "head"
            )
