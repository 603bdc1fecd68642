"""Recipes: one TOML file per training setup, read by `mlrec.config_layers`."""
