"""A cluster of Dask: the client, what it ships to workers, and tasks in a window."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from sillar.errors import ConfigError, DependencyError, missing

try:
    import dask
    from dask.core import flatten
    from dask.delayed import Delayed, delayed
    from dask.optimization import cull
    from distributed import (
        CancelledError,
        Client,
        KilledWorker,
        Worker,
        WorkerPlugin,
        as_completed,
        default_client,
        get_worker,
    )
except ImportError:
    raise missing("dask[distributed]", "dask", "sillar.distributed.dask") from None

Scheduler = Any  # an address, a Client, a cluster such as LocalCluster, or None
PIECE = "64MiB"  # of a Parquet file in a partition
WAIT = 30.0  # seconds for a scheduler to answer, and for the first worker to come

__all__ = ["Delayed", "Worker", "WorkerPlugin", "delayed"]


def connect(scheduler: Scheduler, operation: str) -> tuple[Client, bool]:
    """Return a client whose cluster has workers, and whether it was made here.

    `scheduler` is an address such as "tcp://10.0.0.1:8786", a cluster, a client, or
    None for the client that the program has made last.
    """
    client = _client(scheduler, operation)
    own = scheduler is not None and client is not scheduler
    try:
        client.wait_for_workers(1, timeout=WAIT)
        _check_release(client, operation)
    except TimeoutError:
        address = client.scheduler.address
        _close(client, own)
        raise ConfigError(
            f"{operation}: the scheduler at {address} has no workers: start one with"
            f" dask worker {address}"
        ) from None
    except BaseException:
        _close(client, own)
        raise
    return client, own


def _close(client: Client, own: bool) -> None:
    if own:
        client.close()


def _client(scheduler: Scheduler, operation: str) -> Client:
    if isinstance(scheduler, Client):
        return scheduler
    try:
        if scheduler is None:
            return default_client()
        return Client(scheduler, timeout=WAIT, set_as_default=False)
    except (OSError, ValueError, TypeError) as fault:
        given = "no client" if scheduler is None else f"{scheduler!r:.80}"
        raise ConfigError(
            f"{operation}: expected a running cluster of Dask, got {given}"
            f" ({fault!s:.200}); start one with dask scheduler and dask worker, and"
            " give its address, as in scheduler='tcp://127.0.0.1:8786'"
        ) from None


def _check_release(client: Client, operation: str) -> None:
    """Refuse workers that do not have this release of Sillar."""
    from sillar import __version__

    try:
        found = client.run(_release)
    except ImportError as fault:
        raise DependencyError(
            f"{operation}: the workers cannot import Sillar ({fault!s:.200}): install"
            f" release {__version__} where they run"
        ) from None
    other = {address: name for address, name in found.items() if name != __version__}
    if other:
        raise ConfigError(
            f"{operation}: expected Sillar {__version__} on all workers, got"
            f" {other!r:.200}; install one release everywhere"
        )


def _release() -> str:
    from sillar import __version__

    return __version__


@contextmanager
def connected(scheduler: Scheduler, operation: str) -> Iterator[Client]:
    """Yield a client, and close it if it was made here."""
    client, own = connect(scheduler, operation)
    try:
        yield client
    finally:
        _close(client, own)


def partitions(collection: Any, operation: str) -> list[Delayed]:
    """Return one lazy value for each partition, with the graph of that one alone."""
    if not dask.is_dask_collection(collection) or isinstance(collection, Delayed):
        raise ConfigError(
            f"{operation}: expected a Dask array, bag or dataframe, got"
            f" {type(collection).__name__}"
        )
    if getattr(collection, "ndim", 2) == 0:
        raise ConfigError(f"{operation}: expected rows, got a single value")
    if hasattr(collection, "rechunk") and collection.ndim > 1:
        collection = collection.rechunk(dict.fromkeys(range(1, collection.ndim), -1))
    frame = hasattr(collection, "optimize")  # and dask.optimize drops its projections
    lean = collection.optimize() if frame else dask.optimize(collection)[0]
    graph = dict(lean.__dask_graph__())
    keys = list(flatten(lean.__dask_keys__()))
    return [Delayed(key, cull(graph, [key])[0]) for key in keys]


def read_table(path: str) -> Any:
    """Return a table of Parquet or CSV files as a dataframe; text stays as it is."""
    from dask import dataframe

    if path.lower().endswith((".csv", ".txt")):
        return dataframe.read_csv(path, dtype=str, keep_default_na=False)
    return dataframe.read_parquet(
        path, blocksize=PIECE, split_row_groups="adaptive", aggregate_files=False
    )


def token_of(collection: Any) -> str:
    """Return the name that Dask gives to what a collection computes."""
    return str(dask.base.tokenize(collection))


class Shipment(WorkerPlugin):
    """A value that is sent once to each worker, also to one that comes later.

    `setup` runs when the worker gets it, before its first task.
    """

    def __init__(self, value: Any) -> None:
        self.value = value

    def setup(self, worker: Worker) -> None:
        """Make ready what tasks will ask for; here it is as it came."""


@contextmanager
def shipped(client: Client, shipment: Shipment, name: str) -> Iterator[None]:
    """Keep a shipment on all workers under `name`."""
    client.register_plugin(shipment, name=name)
    try:
        yield
    finally:
        with suppress(OSError, ValueError, CancelledError):
            client.unregister_worker_plugin(name)


def cargo(name: str) -> Any:
    """Return the shipment of this name on the worker that runs the present task."""
    return get_worker().plugins[name]


def outcomes(
    client: Client, tasks: Iterable[tuple[Any, Delayed]], ahead: int | None = None
) -> Iterator[tuple[Any, Any]]:
    """Yield (tag, value or exception) of tasks as they end, few at a time.

    So the scheduler holds the graphs of `ahead` tasks, twice the threads by default.
    The tasks of a worker that dies run again on another one; after some deaths on the
    same task (`distributed.scheduler.allowed-failures`) that task has failed.
    """
    coming, running = iter(tasks), as_completed(loop=client.loop)
    ahead = ahead or 2 * max(1, sum(client.ncores().values()))
    tags: dict[Any, Any] = {}
    try:
        while True:
            while len(tags) < ahead and (task := next(coming, None)) is not None:
                tag, lazy = task
                future = client.compute(lazy)
                tags[future.key] = tag, future
                running.add(future)
            if not tags:
                return
            done = next(running)
            tag, _ = tags.pop(done.key)
            yield tag, value_of(done)
            done.release()
    finally:
        for _, future in tags.values():
            future.cancel()


def value_of(future: Any) -> Any:
    """Return a task's value, or the exception that it ended with."""
    try:
        return future.result()
    except KilledWorker as fault:
        deaths = fault.allowed_failures + 1
        return RuntimeError(
            f"its worker died {deaths} times in a row: is there too little memory? make"
            " partitions smaller"
        )
    except Exception as fault:
        return fault
