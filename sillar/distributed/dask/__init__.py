"""Dask: its collections as data sets, and folds, searches and scores as its tasks."""

from sillar.distributed.dask.source import open_dask

__all__ = ["open_dask"]
