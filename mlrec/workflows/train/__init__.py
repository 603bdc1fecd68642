"""Training: plan, trainer, run record."""
