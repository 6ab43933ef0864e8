"""Dask: its collections as data sets, and folds, searches and scores as its tasks."""

from sillar.distributed.dask.scores import Scores, predict
from sillar.distributed.dask.source import open_dask
from sillar.distributed.dask.trials import Search, fit_kfold, search

__all__ = ["Scores", "Search", "fit_kfold", "open_dask", "predict", "search"]
