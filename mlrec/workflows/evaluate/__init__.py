"""Evaluation: scores, λ sweeps, localization, thresholds, attention maps."""
