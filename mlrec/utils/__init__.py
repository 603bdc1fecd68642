"""Files, errors, progress, processes, threads and signals: used by every layer, importing none."""
