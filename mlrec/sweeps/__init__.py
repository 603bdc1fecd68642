"""Sweeps: planning, running and comparing many training runs as one experiment."""
