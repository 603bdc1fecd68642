"""Evaluation: scores, λ sweeps, localization, thresholds and attention maps."""
