"""Checkpoints: all of a run's state in one file, replaced in one instant."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from sillar.errors import ConfigError
from sillar.files import read_arrays, write_arrays
from sillar.train.callbacks import Callback
from sillar.train.run import SAVED, Run

FILE = Path("checkpoint") / "state.safetensors"


class Checkpoint(Callback):
    """Save the run to `checkpoint/state.safetensors` in a directory.

    `fit(run_dir=...)` does so after each epoch; every(steps=500)(Checkpoint(run_dir))
    does so within long ones.
    """

    def __init__(self, directory: str | Path) -> None:
        self.path = Path(directory) / FILE

    def on_start(self, run: Run) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def on_step(self, run: Run) -> None:
        save_checkpoint(run, self.path)

    def on_epoch_end(self, run: Run) -> None:
        save_checkpoint(run, self.path)


def save_checkpoint(run: Run, path: Path) -> None:
    """Write the run's whole state; an interrupted write leaves the file before."""
    parts = {"optimizer": run.optimizer.state()}
    parts |= {f"callbacks.{i}": c.state() for i, c in enumerate(run.callbacks)}
    arrays = {f"model/{name}": array for name, array in run.model.state().items()}
    plain: dict[str, Any] = {"run": run.progress(), "identity": run.identity}
    for owner, state in parts.items():
        plain[owner] = _split(state, f"{owner}/", arrays)
    write_arrays(path, arrays, {"sillar.checkpoint": json.dumps(plain)})


def load_checkpoint(run: Run, path: Path) -> None:
    """Put the run back where the checkpoint left it; it must be the same run."""
    arrays, metadata = read_arrays(path)
    try:
        plain = json.loads(metadata["sillar.checkpoint"])
        identity, progress = plain["identity"], plain["run"]
        states = {
            owner: _joined(plain[owner], f"{owner}/", arrays)
            for owner in ("optimizer", *_callback_names(run))
        }
        values = {name: progress[name] for name in SAVED}
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"resume: {path} is not a checkpoint of this run: {error!r}"
        ) from None
    for name, value in run.identity.items():
        if identity.get(name) != value:
            raise ConfigError(
                f"resume: {name} was {identity.get(name)!r} in {path}, now it is"
                f" {value!r}: resume with the same settings, or start a new run"
            )
    run.model.load_state(_below("model/", arrays))
    run.optimizer.load_state(states["optimizer"])
    for callback, owner in zip(run.callbacks, _callback_names(run), strict=True):
        callback.load_state(states[owner])
    for name, value in values.items():
        setattr(run, name, value)


def _callback_names(run: Run) -> list[str]:
    return [f"callbacks.{i}" for i in range(len(run.callbacks))]


def _split(state: Any, prefix: str, arrays: dict[str, np.ndarray]) -> Any:
    """Move the arrays of a nested state into `arrays`; return the rest."""
    if isinstance(state, np.ndarray):
        arrays[prefix] = state
        return {"array": prefix}
    if isinstance(state, dict):
        return {
            "dict": {k: _split(v, f"{prefix}{k}/", arrays) for k, v in state.items()}
        }
    return {"value": state.item() if isinstance(state, np.generic) else state}


def _joined(state: Any, prefix: str, arrays: dict[str, np.ndarray]) -> Any:
    """Return the nested state with its arrays back in their places."""
    if "array" in state:
        return arrays[prefix]
    if "dict" in state:
        parts = state["dict"].items()
        return {name: _joined(part, f"{prefix}{name}/", arrays) for name, part in parts}
    return state["value"]


def _below(prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    inside = (name for name in arrays if name.startswith(prefix))
    return {name.removeprefix(prefix): arrays[name] for name in inside}
