"""Dataset workflows: prepare, split, stats, duplicates, export."""
