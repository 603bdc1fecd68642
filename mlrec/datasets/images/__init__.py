"""Decoding of image files, and checks of their integrity."""
