"""Sweeps: many training runs that are planned, run and compared as one experiment."""
