"""Statistics, splits, groups and near-duplicates of a dataset."""
