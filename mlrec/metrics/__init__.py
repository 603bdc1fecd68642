"""Scoring: logits and targets to `Metrics`, numpy only."""
