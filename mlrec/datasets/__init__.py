"""Datasets: readers of third-party annotations, manifests, images and their analysis."""
