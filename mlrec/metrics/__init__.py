"""Metrics computed from logits and targets with numpy only."""
