"""Sweeps: many training runs as one experiment, with a plan, workers and a table."""
