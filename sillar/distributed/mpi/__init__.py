"""Data parallelism over MPI: many processes train one model, each its share."""

from sillar.distributed.mpi.ranks import Ranks, launched

__all__ = ["Ranks", "launched"]
