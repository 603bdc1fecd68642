"""Import of checkpoints, export of models, prediction."""
