"""Shared: arrays in one block of shared memory, which processes find by its name."""

from __future__ import annotations

import math
import os
import secrets
import shutil
from contextlib import suppress
from multiprocessing.shared_memory import SharedMemory

import numpy as np

from sillar.errors import ConfigError

Specs = dict[str, tuple[tuple[int, ...], str]]  # by name: shape and dtype
_FOLDER = "/dev/shm"  # where Linux keeps such memory
_ALIGNED = 64  # bytes


class Shared:
    """Arrays by name in one block; the process that made it removes it."""

    def __init__(self, specs: Specs, name: str | None = None) -> None:
        offsets, size = _layout(specs)
        if name is None:
            _check_room(size)
        self.specs, self._maker = specs, os.getpid() if name is None else None
        own = name or f"sillar_{os.getpid()}_{secrets.token_hex(4)}"
        self.block = SharedMemory(own, create=name is None, size=size)
        self.arrays = {
            key: np.ndarray(shape, dtype, self.block.buf, offset)
            for (key, (shape, dtype)), offset in zip(
                specs.items(), offsets, strict=True
            )
        }

    def close(self) -> None:
        """Let go of the block; its arrays cannot be used any more."""
        self.arrays = {}
        if self._maker == os.getpid():
            self._maker = None
            self.block.unlink()
        with suppress(BufferError):  # somebody still looks at an array
            self.block.close()


def specs_of(**arrays: np.ndarray) -> Specs:
    """Return what `Shared` needs to know to hold arrays like these."""
    return {name: (array.shape, array.dtype.str) for name, array in arrays.items()}


def _layout(specs: Specs) -> tuple[list[int], int]:
    """Return where each array begins, and the size of all."""
    offsets, end = [], 0
    for shape, dtype in specs.values():
        offsets.append(end)
        size = math.prod(shape) * np.dtype(dtype).itemsize
        end += -(-size // _ALIGNED) * _ALIGNED
    return offsets, max(end, 1)


def _check_room(size: int) -> None:
    """Raise if the memory is not there; a process that used it would be killed."""
    free = shutil.disk_usage(_FOLDER).free if os.path.isdir(_FOLDER) else size
    if size > free:
        raise ConfigError(
            f"DataLoader: workers need {size:,} bytes of shared memory, {_FOLDER} has"
            f" {free:,} left; pass workers=0, make the batches smaller, keep the"
            " examples in a file (open_npy), or give a container more (--shm-size)"
        )
