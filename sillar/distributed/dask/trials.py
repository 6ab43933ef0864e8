"""Folds and settings as Dask tasks: cross-validation and a search for settings."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from sillar.core.rng import Rng
from sillar.data import Dataset
from sillar.distributed.dask.cluster import (
    Scheduler,
    Shipment,
    cargo,
    connected,
    delayed,
    outcomes,
    shipped,
)
from sillar.distributed.dask.source import Partitions
from sillar.errors import ConfigError, DataError, SillarError
from sillar.evidence.cross_validation import (
    CrossValidation,
    Trial,
    joined,
    listed,
    run_fold,
)
from sillar.files import replacing

Settings = Mapping[str, Any]


def fit_kfold(
    trial: Trial,
    dataset: Dataset,
    folds: Iterable[tuple[Any, Any]],
    *,
    scheduler: Scheduler = None,
) -> CrossValidation:
    """Return the metrics of trial(train, test, fold) for every fold, each one a task.

    The same numbers as `sillar.evidence.cross_validate`, which says what a trial is.
    The data set is sent to each worker once; the folds are row numbers.
    """
    cuts = listed(folds)
    found: list[Any] = [None] * len(cuts)
    with connected(scheduler, "fit_kfold") as client, sent(client, dataset) as name:
        tasks = (
            (fold, delayed(_fold)(trial, name, *cut, fold))
            for fold, cut in enumerate(cuts)
        )
        for fold, value in outcomes(client, tasks):
            if isinstance(value, BaseException):
                raise _named(f"fit_kfold: fold {fold}", value) from value
            found[fold] = value
    return joined(found, cuts)


@dataclass(frozen=True)
class Search:
    """What a search found: one row for each setting, in the order they were given.

    A row has the `settings`, and `metrics` with `seconds`, or the `error` that ended
    the trial. `best` is the row with the best `metric`.
    """

    metric: str
    mode: str
    rows: list[dict[str, Any]]

    @property
    def best(self) -> dict[str, Any]:
        """Return the best row; of equal ones the first."""
        sign = -1 if self.mode == "max" else 1
        good = [row for row in self.rows if "metrics" in row]
        return min(good, key=lambda row: sign * row["metrics"][self.metric])

    @property
    def failures(self) -> list[dict[str, Any]]:
        """Return the rows whose trials failed."""
        return [row for row in self.rows if "error" in row]


def search(
    trial: Callable[[Dataset, dict[str, Any]], Mapping[str, float]],
    dataset: Dataset,
    settings: Mapping[str, Sequence[Any]] | Iterable[Settings],
    *,
    metric: str,
    mode: str = "min",
    samples: int | None = None,
    seed: int = 0,
    scheduler: Scheduler = None,
    folder: str | os.PathLike[str] | None = None,
    progress: Callable[[dict[str, Any]], Any] | None = None,
) -> Search:
    """Return the metrics of trial(dataset, setting) for every setting, each one a task.

    `settings` are choices by name, as {"lr": [1e-2, 1e-3], "width": [8, 16]}, all of
    whose combinations are tried, or `samples` of them drawn by `seed`; or a list of
    settings. `mode` says if the `metric` is to be "min" or "max". A trial that fails is
    a row with its error, and the others go on.

    With `folder` each finished trial is kept in a file there, and not run again when
    the search is. `progress` is called with each row as it comes.
    """
    tried = _settings(settings, samples, seed)
    if mode not in ("min", "max"):
        raise ConfigError(f"search: mode must be 'min' or 'max', got {mode!r:.40}")
    kept = None if folder is None else Kept(Path(folder), trial, dataset)
    rows = {i: row for i, s in enumerate(tried) if kept and (row := kept.read(s))}
    todo = [i for i in range(len(tried)) if i not in rows]
    if todo:
        with connected(scheduler, "search") as client, sent(client, dataset) as name:
            tasks = ((i, delayed(_try)(trial, name, tried[i])) for i in todo)
            for i, value in outcomes(client, tasks):
                rows[i] = _row(tried[i], value, metric)
                if kept and "metrics" in rows[i]:
                    kept.write(rows[i])
                if progress is not None:
                    progress(rows[i])
    found = Search(metric, mode, [rows[i] for i in range(len(tried))])
    if len(found.failures) == len(tried):
        raise ConfigError(
            f"search: all {len(tried)} trials failed, the first with:"
            f" {found.rows[0]['error']}"
        )
    return found


class Kept:
    """Finished trials in a folder: a file for each, named by what was tried."""

    def __init__(self, folder: Path, trial: Any, dataset: Dataset) -> None:
        self.folder = folder
        name = f"{trial.__module__}.{getattr(trial, '__qualname__', trial)}"
        self.identity = {"trial": name, "data": dataset.digest()}
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, setting: Settings) -> Path:
        """Return the file of a setting's trial."""
        text = json.dumps([self.identity, setting], sort_keys=True)
        return self.folder / f"trial-{hashlib.sha256(text.encode()).hexdigest()}.json"

    def read(self, setting: Settings) -> dict[str, Any] | None:
        """Return the row of a finished trial."""
        with suppress(FileNotFoundError):
            try:
                return dict(json.loads(self.path(setting).read_text()))
            except ValueError:
                return None  # damaged: it is run again
        return None

    def write(self, row: dict[str, Any]) -> None:
        """Keep a row, whole or not at all."""
        with replacing(str(self.path(row["settings"]))) as file:
            file.write(json.dumps(row).encode())


@contextmanager
def sent(client: Any, dataset: Dataset) -> Iterator[str]:
    """Send a data set to each worker once, while the folds or trials run."""
    if not isinstance(dataset, Dataset):
        raise ConfigError(f"expected a Dataset, got {type(dataset).__name__}")
    if isinstance(getattr(dataset.x, "array", dataset.x), Partitions):
        raise ConfigError(
            "expected data that can be sent to workers, got partitions, which come from"
            " them: give arrays, or files that workers see, as sillar.data.open_parquet"
        )
    name = f"sillar-data-{os.urandom(8).hex()}"
    with shipped(client, Shipment(dataset), name):
        yield name


def _fold(
    trial: Trial, name: str, train: np.ndarray, test: np.ndarray, fold: int
) -> dict[str, float]:
    return run_fold((trial, cargo(name).value, train, test, fold))


def _try(trial: Any, name: str, setting: Settings) -> tuple[dict[str, float], float]:
    start = time.perf_counter()
    found = {k: float(v) for k, v in trial(cargo(name).value, dict(setting)).items()}
    return found, round(time.perf_counter() - start, 3)


def _row(setting: Settings, value: Any, metric: str) -> dict[str, Any]:
    row: dict[str, Any] = {"settings": dict(setting)}
    if isinstance(value, BaseException):
        return row | {"error": f"{type(value).__name__}: {value!s:.500}"}
    metrics, seconds = value
    if not np.isfinite(metrics.get(metric, np.nan)):
        return row | {
            "error": f"expected a finite metric {metric!r:.40} of the trial, got"
            f" {metrics!r:.200}"
        }
    return row | {"metrics": metrics, "seconds": seconds}


def _settings(given: Any, samples: int | None, seed: int) -> list[dict[str, Any]]:
    """Return the settings to try, in order."""
    if isinstance(given, Mapping):
        if not all(
            isinstance(c, Sequence) and not isinstance(c, str) and len(c)
            for c in given.values()
        ):
            raise ConfigError(
                f"search: expected a list of choices for every name, got {given!r:.200}"
            )
        found = [dict(zip(given, c, strict=True)) for c in product(*given.values())]
    else:
        found = [dict(setting) for setting in given]
    if samples is not None:
        if type(samples) is not int or not 1 <= samples <= len(found):
            raise ConfigError(
                f"search: samples must be an integer from 1 to the {len(found)}"
                f" settings, got {samples!r}"
            )
        order = Rng(seed).split("search").permutation(len(found))
        found = [found[i] for i in sorted(order[:samples].tolist())]
    if not found:
        raise ConfigError("search: expected settings to try, got none")
    try:
        json.dumps(found)
    except TypeError as fault:
        raise ConfigError(f"search: expected plain data as settings: {fault}") from None
    return found


def _named(place: str, fault: BaseException) -> SillarError:
    kind = type(fault) if isinstance(fault, SillarError) else DataError
    return kind(f"{place}: {type(fault).__name__}: {fault!s:.500}")
