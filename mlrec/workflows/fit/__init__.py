"""`mlrec fit`: the best model in a given time."""
