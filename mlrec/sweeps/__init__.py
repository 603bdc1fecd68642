"""Sweeps: many training runs as one experiment, from the plan over the workers to the table."""
