"""Run folders: records, logs, scores and thresholds."""
