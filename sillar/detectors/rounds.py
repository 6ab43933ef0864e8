"""Rounds that are done, kept in a folder: what was begun goes on with the next one."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from sillar.errors import SillarError
from sillar.files import read_arrays, write_arrays

NAME = "round-{}.safetensors"
OUTPUTS = "outputs"


class Rounds:
    """The outputs of each round, in files of `folder`.

    `settings` is all that a round depends on beside its rows: another text, or other
    rows to leave out, and the round is done again.
    """

    def __init__(self, folder: Path, settings: str) -> None:
        self.folder, self.settings = folder, settings

    def read(self, number: int, held: np.ndarray) -> np.ndarray | None:
        """Return the outputs of the rows that a round held; None if it is not done."""
        path = self.folder / NAME.format(number)
        if not path.exists():
            return None
        try:
            arrays, notes = read_arrays(path)
        except SillarError:  # not ours, or damaged: the round is done again
            return None
        found = arrays.get(OUTPUTS)
        if notes.get("key") != self._key(held) or found is None:
            return None
        return found if found.ndim == 2 and len(found) == int(held.sum()) else None

    def write(self, number: int, held: np.ndarray, outputs: np.ndarray) -> None:
        """Keep the outputs of a round, whole or not at all."""
        path = self.folder / NAME.format(number)
        write_arrays(path, {OUTPUTS: outputs}, {"key": self._key(held)})

    def _key(self, held: np.ndarray) -> str:
        text = self.settings.encode() + np.packbits(held).tobytes()
        return hashlib.sha256(text).hexdigest()


def forget_rounds(folder: Path) -> None:
    """Remove what is kept of rounds, once the detector is whole."""
    for path in folder.glob(NAME.format("*")):
        path.unlink(missing_ok=True)
