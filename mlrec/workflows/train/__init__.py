"""Training of models: plan, trainer and run record."""
