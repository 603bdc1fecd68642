"""Image decoding and integrity checks."""
