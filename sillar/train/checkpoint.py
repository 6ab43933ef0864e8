"""Checkpoints: all of a run's state in one file, replaced in one instant."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from sillar.errors import ConfigError, FormatError
from sillar.files import read_arrays, write_arrays
from sillar.train.callbacks import Callback, unwrapped
from sillar.train.run import Run

FILE = Path("checkpoint") / "state.safetensors"
KEY = "sillar.checkpoint"  # of the metadata; its value is a checksum of the arrays
VERSION = 1


class Checkpoint(Callback):
    """Save the run to `checkpoint/state.safetensors` in a directory.

    `fit(run_dir=...)` does so after each epoch; every(steps=500)(Checkpoint(run_dir))
    does so within long ones.
    """

    def __init__(self, directory: str | Path) -> None:
        self.path = Path(directory) / FILE

    def on_start(self, run: Run) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if run.ranks.rank:
            return
        for left_over in self.path.parent.glob(".*.tmp"):  # of a killed run
            left_over.unlink(missing_ok=True)

    def on_step(self, run: Run) -> None:
        save_checkpoint(run, self.path)

    def on_epoch_end(self, run: Run) -> None:
        save_checkpoint(run, self.path)


def save_checkpoint(run: Run, path: Path) -> None:
    """Write the run's whole state; an interrupted write leaves the file before."""
    run.settle()
    arrays = {f"model/{name}": array for name, array in run.model.state().items()}

    def apart(value: Any) -> Any:
        """Move an array out of the JSON, and leave its name."""
        if isinstance(value, np.generic):
            return value.item()
        if not isinstance(value, np.ndarray):
            raise ConfigError(
                "checkpoint: a state is numbers, text, arrays, lists and dictionaries,"
                f" got {value!r:.60}: save it as those"
            )
        name = f"state/{len(arrays)}"
        arrays[name] = value
        return {"__array__": name}

    together = run.ranks.state()
    plain = ({"ranks": together} if together else {}) | {
        "identity": _identity(run),
        "run": run.progress(),
        "optimizer": run.optimizer.state(),
        "callbacks": [callback.state() for callback in _with_state(run)],
    }
    text = json.dumps(plain, default=apart).encode()
    if run.ranks.rank:
        return  # the first writes for all
    arrays["json"] = np.frombuffer(text, np.uint8)
    write_arrays(path, arrays, {KEY: _checksum(arrays)})


def load_checkpoint(run: Run, path: Path) -> None:
    """Put the run back where the checkpoint left it; it must be the same run."""
    arrays, metadata = read_arrays(path)
    if metadata.get(KEY) != _checksum(arrays):
        raise FormatError(
            f"resume: expected a checkpoint in {path}, got a file without the right"
            " checksum; it is damaged: bring back a copy, or start a new run"
        )

    def together(table: dict[str, Any]) -> Any:
        return arrays[table["__array__"]] if "__array__" in table else table

    plain = json.loads(arrays.pop("json").tobytes(), object_hook=together)
    _check_identity(plain["identity"], _identity(run), path)
    run.optimizer.load_state(plain["optimizer"])
    inside = (name for name in arrays if name.startswith("model/"))
    run.model.load_state({name.removeprefix("model/"): arrays[name] for name in inside})
    for callback, state in zip(_with_state(run), plain["callbacks"], strict=True):
        callback.load_state(state)
    for name, value in plain["run"].items():
        setattr(run, name, value)
    run.ranks.load_state(plain.get("ranks", {}))


def _identity(run: Run) -> dict[str, Any]:
    """Return what must be the same when a run is resumed."""
    state = run.model.state().items()
    return {
        "version": VERSION,
        **run.identity,
        "loss": type(run.loss).__name__,
        "optimizer": type(run.optimizer).__name__,
        "callbacks": [type(callback).__name__ for callback in _with_state(run)],
        **{f"model.{path}": f"{a.dtype} {a.shape}" for path, a in state},
    }


def _check_identity(saved: dict[str, Any], now: dict[str, Any], path: Path) -> None:
    for name in {**now, **saved}:
        if saved.get(name) != now.get(name):
            raise ConfigError(
                f"resume: {name} was {saved.get(name)!r} in {path}, now it is"
                f" {now.get(name)!r}: resume with the same settings, or start a new run"
            )


def _with_state(run: Run) -> list[Callback]:
    return [part for part in map(unwrapped, run.callbacks) if part.saved]


def _checksum(arrays: dict[str, np.ndarray]) -> str:
    from hashlib import blake2b

    digest = blake2b(digest_size=16)
    for name, array in arrays.items():
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
