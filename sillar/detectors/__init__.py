"""Detectors: one readable file for each use, where the other parts meet."""
