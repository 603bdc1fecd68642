"""Plots, heat-map overlays and contact sheets."""
