"""Sweeps: many training runs as one experiment, with plan, workers and table."""
