"""`mlrec fit`: find the best model within a time limit."""
