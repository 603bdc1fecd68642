"""Workflows on datasets: prepare, split, stats, duplicates, export."""
