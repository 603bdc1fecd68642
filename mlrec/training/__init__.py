"""From manifest and config to trained weights and predictions."""
