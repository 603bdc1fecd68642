"""Checkpoint import, model export, and prediction."""
