"""Measurements, each one command; results with date and versions in `results/`."""
