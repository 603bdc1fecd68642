"""Training and inference: from manifest and config to trained weights and predictions."""
