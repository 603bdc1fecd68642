"""Files, errors, progress, processes, threads and signals, used by all layers."""
