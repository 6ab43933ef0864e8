"""Ranks: the processes that train one model, and what they agree on."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from sillar.backends import backend_of
from sillar.backends.numpy import threads
from sillar.data.loader import part
from sillar.distributed.mpi.step import RankStep
from sillar.distributed.mpi.total import Total, check_wire
from sillar.distributed.mpi.watch import Watch
from sillar.errors import ConfigError, missing
from sillar.optim.checks import above_zero, integer
from sillar.train.ranks import Alone
from sillar.train.run import Run

BLOCK = 256  # rows that `predict` takes at a time
LAUNCHERS = {  # what says how many there are, and which one this is
    "PMI_SIZE": "PMI_RANK",
    "OMPI_COMM_WORLD_SIZE": "OMPI_COMM_WORLD_RANK",
    "MV2_COMM_WORLD_SIZE": "MV2_COMM_WORLD_RANK",
    "SLURM_STEP_NUM_TASKS": "SLURM_PROCID",
}


def launched() -> int | None:
    """Return which of several processes this is, as `mpiexec` or `srun` says, or None.

    None means that it was started by itself.
    """
    for size, rank in LAUNCHERS.items():
        found = os.environ.get(size, ""), os.environ.get(rank, "")
        if all(map(str.isdigit, found)) and int(found[0]) > 1:
            return int(found[1])
    return None


class Ranks(Alone):
    """The processes that `mpiexec -n N` started; `fit(ranks=Ranks())` trains on all.

    `batch_size` is that of the run: each rank takes its part of every batch, all have
    the gradient of the whole one, so N ranks train what one process would train. With
    `parts`, a multiple of N, the gradient is the sum of so many parts in a fixed
    order, and the bits are those of any other number of ranks with as many parts.

    `compress` sends gradients as "float16" or "bfloat16". A rank that raises, dies or
    keeps others waiting for more than `timeout` seconds ends the run on all of them,
    with one message. `comm` is MPI's world unless you give a communicator of mpi4py.
    """

    def __init__(
        self,
        *,
        parts: int | None = None,
        compress: str | None = None,
        timeout: float = 25.0,
        comm: Any = None,
    ) -> None:
        try:
            from mpi4py import MPI
        except ImportError as error:
            raise missing("mpi4py", "mpi", "training on several ranks") from error
        except RuntimeError as error:
            raise ConfigError(
                f"Ranks: mpi4py finds no MPI library ({str(error).splitlines()[0]}):"
                " install one, such as MPICH: pip install 'sillar[mpi]'"
            ) from error
        self.comm = MPI.COMM_WORLD if comm is None else comm
        self.rank, self.size = self.comm.Get_rank(), self.comm.Get_size()
        self.share = (self.rank, self.size)
        self.watch = Watch(self.comm)
        self.seconds = 0.0  # spent in communication, waiting for others included
        self.use(parts=parts, compress=compress, timeout=timeout)
        self._share_cores(MPI)

    def use(
        self,
        *,
        parts: int | None = None,
        compress: str | None = None,
        timeout: float = 25.0,
    ) -> None:
        """Take these settings from now on."""
        self.parts = integer("Ranks: parts", self.size if parts is None else parts)
        if self.parts % self.size:
            raise ConfigError(
                f"Ranks: parts must be a multiple of the {self.size} ranks, got"
                f" {parts}: leave it away, or start another number of ranks"
            )
        self.each = self.parts // self.size  # parts of one rank
        try:
            check_wire(compress)
        except KeyError:
            raise ConfigError(
                "Ranks: compress must be 'float16', 'bfloat16' or None, got"
                f" {compress!r:.40}"
            ) from None
        self.sum = Total(self.comm, self.call, compress)
        self.watch.set(above_zero("Ranks: timeout", timeout))

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Return function(*args), which all ranks call, and count the time it takes."""
        start = time.perf_counter()
        with self.watch.waiting():
            found = function(*args)
        self.seconds += time.perf_counter() - start
        return found

    def everywhere(self, numbers: Sequence[Any]) -> np.ndarray:
        """Return the numbers that each rank gives, a row for each rank."""
        own = np.array(numbers, np.float64)
        rows = np.empty((self.size, *own.shape))
        self.call(self.comm.Allgather, own, rows)
        return rows

    def add(self, array: np.ndarray) -> np.ndarray:
        """Return the sum of an array over all ranks, in their order."""
        own = np.array(array, order="C")
        rows = np.empty((self.size, *own.shape), own.dtype)
        self.call(self.comm.Allgather, own, rows)
        return rows.sum(axis=0, dtype=np.float64).astype(own.dtype)

    def step(self, *args: Any, **kwargs: Any) -> RankStep:
        """Return the step of a whole batch, of a run that begins."""
        self.sum.load_state(None)
        return RankStep(self, *args, **kwargs)

    def begin(self, run: Run) -> None:
        """Make sure that all train the same, and give all the first one's weights."""
        for name, value in run.identity.items():
            self.same(f"the run's {name}", value)
        about = [type(run.optimizer).__name__, repr(run.optimizer), run.epochs]
        self.same("the optimizer", about)
        state = {k: np.array(v) for k, v in run.model.state().items()}
        self.same("the model", {k: (a.shape, str(a.dtype)) for k, a in state.items()})
        for name in state:
            self.call(self.comm.Bcast, state[name])
        run.model.load_state(state)
        self.same("the step to go on from", (run.epoch, run.batch, run.step))

    def same(self, what: str, value: Any) -> None:
        """Raise unless all ranks have the first one's value."""
        values = self.call(self.comm.allgather, repr(value))
        for rank, other in enumerate(values):
            if other != values[0]:
                raise ConfigError(
                    f"Ranks: {what} is {other:.80} on rank {rank}, but {values[0]:.80}"
                    " on rank 0: give all the same data and settings, and one file"
                    " system"
                )

    def total(self, amounts: dict[str, float]) -> dict[str, float]:
        """Return the sums of what all ranks have counted."""
        rows = self.everywhere(list(amounts.values()))
        return {
            name: type(value)(column.sum())
            for (name, value), column in zip(amounts.items(), rows.T, strict=True)
        }

    def first(self, function: Callable[[], Any]) -> Any:
        """Return what the first rank's function returns, on all of them."""
        return self.call(self.comm.bcast, None if self.rank else function())

    def stopped(self, run: Run) -> bool:
        """Say whether any rank wants the run to end; then it ends on all."""
        rows = self.everywhere([run.stop, run.interrupted])
        stop, interrupted = rows.any(axis=0).tolist()
        if interrupted and not run.interrupted:
            run.interrupt()
        elif stop and not run.stop:
            run.end(f"rank {int(rows[:, 0].argmax())} ended the run")
        return bool(stop)

    def outputs(self, predict: Callable[..., Any], model: Any, x: Any) -> np.ndarray:
        """Return the model's outputs for all rows; each rank computes whole blocks."""
        blocks = part(-(-len(x) // BLOCK), self.rank, self.size)
        own = predict(model, x[blocks.start * BLOCK : blocks.stop * BLOCK])
        rows = self.call(self.comm.allgather, len(own))
        one = int(np.prod(own.shape[1:]))
        found = np.empty((sum(rows), *own.shape[1:]), own.dtype)
        counts = [n * one for n in rows]
        self.call(self.comm.Allgatherv, np.ascontiguousarray(own), [found, counts])
        return found

    def check(self, run: Run) -> None:
        """Raise if the ranks' weights have parted, as on machines of several kinds."""
        vector = run.optimizer.params.vector
        host = np.ascontiguousarray(backend_of(vector).to_numpy(vector))
        sums = host.view(f"u{host.dtype.itemsize}").sum(dtype=np.uint64)
        self.same("the sum of the weights' bits", int(sums))

    @contextmanager
    def together(self) -> Any:
        """Return a context: if one rank fails or dies, all end, with one message."""
        with self.watch.over():
            yield

    def state(self) -> dict[str, Any]:
        """Return what compression has left over, of all ranks together."""
        left = self.sum.state()
        return {} if left is None else {"left": left}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take up a saved state, also of another number of ranks."""
        self.sum.load_state(state.get("left"))

    def _share_cores(self, library: Any) -> None:
        """Give each rank of a machine its part of the cores, if nobody has said."""
        near = self.comm.Split_type(library.COMM_TYPE_SHARED)
        count, cores = near.Get_size(), os.cpu_count() or 1
        near.Free()
        if count > 1 and threads.threads() == cores:  # neither bound nor limited
            threads.set_threads(max(1, cores // count))
