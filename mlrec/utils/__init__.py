"""Helpers for files, errors, progress, processes, threads and signals."""
