"""Backbones, heads, and loading of weights."""
