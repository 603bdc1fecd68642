"""Heads, backbones and their weights."""
