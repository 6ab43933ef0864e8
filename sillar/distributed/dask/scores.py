"""Scores of a table that no machine can hold: partition by partition, as Dask tasks."""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sillar import train
from sillar.data import Encoder
from sillar.data.parquet import parquet_rows, write_parquet
from sillar.distributed.dask.cluster import (
    Delayed,
    Scheduler,
    Shipment,
    Worker,
    cargo,
    connected,
    delayed,
    outcomes,
    partitions,
    read_table,
    shipped,
    token_of,
)
from sillar.distributed.dask.rows import Form, columns_of, in_partition, numbers_of
from sillar.errors import ConfigError, DataError, FormatError, SillarError
from sillar.files import replacing
from sillar.nn import Layer
from sillar.optim.checks import integer
from sillar.train.scoring import arrange, class_names, probabilities, read_notes

MANIFEST = "scores.json"
FAILURES = 10  # partitions that may fail before the rest is left
LOADED: dict[str, int] = {}  # how often this process has loaded a model, by shipment


@dataclass
class Scores:
    """What `predict` has written: `part-*.parquet` in a folder, in the table's order.

    `computed` partitions now, `finished` ones before; `loads` says how often each
    worker has loaded the model.
    """

    folder: Path
    partitions: int
    rows: int = 0
    computed: int = 0
    finished: int = 0
    seconds: float = 0.0
    loads: dict[str, int] = field(default_factory=dict)


class Job(NamedTuple):
    """What a worker is told beside its partition."""

    cargo: str  # the shipment with the model
    folder: str
    keep: tuple[str, ...]
    batch_size: int


class ModelOnWorker(Shipment):
    """A model's file, sent once to each worker, and loaded there once."""

    def __init__(self, value: bytes, name: str) -> None:
        super().__init__(value)
        self.name = name

    def setup(self, worker: Worker) -> None:
        """Load the model and its encoder; nothing in the file is run."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.safetensors"
            path.write_bytes(self.value)
            self.model = train.load(path)
            self.encoder = train.load_encoder(path)
            self.notes = read_notes(path)
        self.address, self.value = worker.address, b""
        LOADED[self.name] = LOADED.get(self.name, 0) + 1

    def teardown(self, worker: Worker) -> None:
        """Forget the model."""
        LOADED.pop(self.name, None)


def predict(
    model: Layer | str | os.PathLike[str],
    table: Any,
    out: str | os.PathLike[str],
    *,
    encoder: Encoder | None = None,
    keep: Sequence[str] = (),
    scheduler: Scheduler = None,
    batch_size: int = 256,
    resume: bool = False,
    progress: Callable[[Scores], Any] | None = None,
) -> Scores:
    """Write the model's scores of a table to the folder `out`, a file a partition.

    `table` is a Dask array, bag or dataframe, or the path of Parquet or CSV files. A
    model given as a file brings its encoder and the names of its classes. The files
    have the columns `keep` of the table, and `class` and `probability`, or `output`
    where there are no classes. Workers write them, so all must see `out`.

    A file appears whole or not at all. With `resume=True` partitions that have one are
    not computed again. `progress` is called after each partition.
    """
    if isinstance(keep, str):
        raise ConfigError(f"predict: keep takes names in a list: keep=[{keep!r}]")
    data = _model_file(model, encoder)
    digest = hashlib.sha256(data).hexdigest()
    if isinstance(table, str | os.PathLike):
        table = read_table(os.fspath(table))
    parts = partitions(table, "predict")
    found = Scores(Path(out).absolute(), len(parts))
    size = integer("predict: batch_size", batch_size)
    name = f"sillar-model-{digest[:16]}-{os.urandom(8).hex()}"  # of this call alone
    job = Job(name, str(found.folder), tuple(keep), size)
    identity = {"model": digest, "table": token_of(table), "keep": list(keep)}
    _open(found.folder, identity | {"partitions": len(parts)}, resume)
    shipment = ModelOnWorker(data, name)
    with (
        connected(scheduler, "predict") as client,
        shipped(client, shipment, job.cargo),
    ):
        failed = _run(client, parts, job, (found, progress))
    _sweep(found.folder)
    if failed:
        raise _failure(failed, found)
    return found


def _run(
    client: Any, parts: list[Delayed], job: Job, record: tuple[Scores, Any]
) -> dict[int, BaseException]:
    """Compute what is not there yet; return what went wrong, by partition."""
    found, progress = record
    start, failed = time.perf_counter(), {}
    todo = list(_missing(found))
    tasks = ((i, delayed(_score)(parts[i], job, i)) for i in todo)
    for number, value in outcomes(client, tasks):
        if isinstance(value, tuple) and not _path(job.folder, number).exists():
            value = _not_shared(job.folder)
        if isinstance(value, BaseException):
            failed[number] = value
            if len(failed) >= FAILURES:
                break
            continue
        rows, worker, loads = value
        found.rows, found.computed = found.rows + rows, found.computed + 1
        found.loads[worker] = loads
        found.seconds = time.perf_counter() - start
        if progress is not None:
            progress(found)
    return failed


def _score(part: Any, job: Job, number: int) -> tuple[int, str, int]:
    """Write the scores of one partition; return its rows, who did it, and loads."""
    shipment = cargo(job.cargo)
    columns = _columns(part, job, shipment)
    rows = len(next(iter(columns.values())))
    try:
        with replacing(str(_path(job.folder, number))) as file:
            write_parquet(file, columns)
    except FileNotFoundError:
        raise _not_shared(job.folder) from None
    return rows, shipment.address, LOADED[shipment.name]


def _columns(part: Any, job: Job, shipment: ModelOnWorker) -> dict[str, Any]:
    """Return what is kept of a partition, and its scores."""
    part = part if hasattr(part, "shape") else list(part)
    if isinstance(part, list) and not part:  # which has no columns either
        width = len(shipment.notes.get("classes") or ()) or 1
        none = np.empty((0, 1 if width == 2 else width))
        return {name: [] for name in job.keep} | _scores(none, shipment)
    kept = _kept(part, job.keep)
    x = numbers_of(part, Form(left=job.keep), shipment.encoder)
    if len(x):
        x = arrange(x, shipment.notes)
    else:
        x = x.reshape(0, *(shipment.notes.get("input") or x.shape[1:]))
    outputs = train.predict(shipment.model, x, batch_size=job.batch_size)
    outputs = outputs.reshape(len(x), math.prod(outputs.shape[1:]))
    if not np.isfinite(outputs).all():
        row = int(np.argmin(np.isfinite(outputs).all(axis=1)))
        raise FormatError(f"row {row}: the model gives NaN or infinity")
    return kept | _scores(outputs.astype(np.float64), shipment)


def _scores(outputs: np.ndarray, shipment: ModelOnWorker) -> dict[str, Any]:
    """Return the columns of outputs (n, k): class and probability, where there are."""
    width = outputs.shape[1]
    names = class_names(Path("model"), shipment.notes, width)
    if names is None:
        one = ["output"] if width == 1 else [f"output_{i}" for i in range(width)]
        return dict(zip(one, outputs.T, strict=True))
    shares = probabilities(shipment.model, outputs)
    best = shares.argmax(axis=1)
    return {
        "class": np.array(names)[best],
        "probability": shares[np.arange(len(best)), best],
    }


def _kept(part: Any, keep: tuple[str, ...]) -> dict[str, Any]:
    if not keep:
        return {}
    columns = {} if isinstance(part, np.ndarray) else columns_of(part)
    for name in keep:
        if name not in columns:
            raise ConfigError(
                f"keep: no column {name!r:.60}, there are"
                f" {', '.join(map(str, columns)) or 'none'!s:.200}"
            )
    frame = hasattr(part, "columns")  # whose own columns know their type when empty
    return {name: part[name] if frame else columns[name] for name in keep}


def _not_shared(folder: str) -> DataError:
    return DataError(
        f"the worker does not see the folder {folder!r}, or another of this name:"
        " choose one that this machine and all workers share"
    )


def _missing(found: Scores) -> Iterator[int]:
    """Yield the partitions without a whole file; count the rows of the others."""
    for number in range(found.partitions):
        path = _path(found.folder, number)
        try:
            rows = parquet_rows(path) if path.exists() else None
        except DataError:  # damaged since
            rows = None
        if rows is None:
            yield number
        else:
            found.rows, found.finished = found.rows + rows, found.finished + 1


def _open(folder: Path, identity: dict[str, Any], resume: bool) -> None:
    """Begin a folder of scores, or go on with one that has the same identity."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / MANIFEST
    if path.exists():
        if not resume:
            raise ConfigError(
                f"predict: there are scores in {str(folder)!r}: pass resume=True to go"
                " on with them, or choose another folder"
            )
        before = json.loads(path.read_text())
        other = [name for name in identity if before.get(name) != identity[name]]
        if other:
            raise ConfigError(
                f"predict: the scores in {str(folder)!r} are of another"
                f" {', '.join(other)}: choose another folder"
            )
        return
    if any(folder.iterdir()):
        raise ConfigError(
            f"predict: expected an empty folder, got {str(folder)!r} with other files"
        )
    with replacing(str(path)) as file:
        file.write(json.dumps(identity).encode())


def _model_file(model: Any, encoder: Encoder | None) -> bytes:
    """Return the bytes of the model's file, which say all that a worker needs."""
    if not isinstance(model, Layer):
        if encoder is not None:
            raise ConfigError(
                "predict: a model's file brings its own encoder: save it there, with"
                " sillar.save(model, path, encoder=encoder)"
            )
        train.load(model)  # what is wrong with it, workers need not say
        return Path(model).read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        train.save(model, path, encoder=encoder)
        try:
            train.load(path)
        except FormatError:
            raise ConfigError(
                "predict: the model has layers of your own, and only what Sillar can"
                " build from its file is sent to workers"
            ) from None
        return path.read_bytes()


def _failure(failed: dict[int, BaseException], found: Scores) -> SillarError:
    """Return the error that names the partitions that failed, and why one did."""
    number, fault = min(failed.items())
    names = ", ".join(map(str, sorted(failed)))
    error = in_partition(number, "predict", fault)
    return type(error)(
        f"{error}; {len(failed)} of {found.partitions} partitions failed ({names}),"
        f" {found.finished + found.computed} are in {str(found.folder)!r}: correct the"
        " cause, and go on with resume=True"
    )


def _path(folder: str | Path, number: int) -> Path:
    return Path(folder) / f"part-{number:06d}.parquet"


def _sweep(folder: Path) -> None:
    """Remove what workers left behind that were killed half-way."""
    for leftover in folder.glob(".????????????????.tmp"):
        leftover.unlink(missing_ok=True)
