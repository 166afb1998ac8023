"""Datasets: found, read, and held as sets of images."""
