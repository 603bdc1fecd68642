"""Workflows on data sets: prepare, split, stats, duplicates, export."""
