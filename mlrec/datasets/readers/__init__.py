"""One reader per annotation format, listed in `registry`."""
