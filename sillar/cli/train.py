"""`sillar train`: a run from its recipe to its test metrics, or the rest of one."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sillar.cli import machine, show
from sillar.cli.evaluate import measured
from sillar.cli.live import progress
from sillar.cli.plan import Plan, make_plan
from sillar.cli.recipe import changed, checked, leaves, read_recipe
from sillar.cli.record import (
    MODEL,
    RECORD,
    is_finished,
    new_directory,
    new_record,
    new_state,
    now,
    read_record,
    sweep,
    write_record,
)
from sillar.cli.sources import settled
from sillar.detectors.rounds import forget_rounds
from sillar.distributed.mpi import Ranks, launched
from sillar.errors import ConfigError, DataError
from sillar.train import CSVLog, Run, TensorBoard, fit, save
from sillar.train.ranks import Alone

Changes = Sequence[tuple[str, Any]]
CHANGEABLE = (
    "training.epochs",
    "training.workers",
    "training.track",
    "data.folder",
    *(f"training.ranks.{name}" for name in ("parts", "compress", "timeout")),
)  # of a run that goes on
Found = tuple[Path, dict[str, Any]]


def train(
    recipe: str | None, changes: Changes, out: Path | None, resume: Path | None
) -> Found | None:
    """Train to the end; return the run's directory and its record.

    Where `mpiexec` started several processes, the first alone keeps the record, and
    returns it.
    """
    ranks = Alone() if launched() is None else Ranks()
    with ranks.together():
        found = _train(ranks, recipe, changes, out, resume)
    return None if ranks.rank else found


def _train(
    ranks: Alone,
    recipe: str | None,
    changes: Changes,
    out: Path | None,
    resume: Path | None,
) -> Found:
    if out is not None and resume is not None:
        raise ConfigError("--out and --resume: give one, both name the run's directory")
    if resume is not None and (resume / RECORD).exists():
        return _go_on(ranks, recipe, changes, resume)
    if recipe is None:
        if resume is not None:
            read_record(resume)  # says that there is none
        raise ConfigError("train: name a recipe, as in sillar train digits")
    name, tables = read_recipe(recipe)
    tables = checked(changed(tables, changes))
    plan = make_plan(tables)
    tables = settled(tables, plan.parts.train)
    record = new_record(name, tables) | {"data": plan.digests}
    record["backend"] = machine.backend(tables["training"])
    directory = ranks.first(lambda: resume or new_directory(name, out))
    directory.mkdir(parents=True, exist_ok=True)
    return _finish(ranks, directory, record, plan)


def _go_on(
    ranks: Alone, recipe: str | None, changes: Changes, directory: Path
) -> Found:
    record = read_record(directory)
    if recipe is not None and Path(recipe).stem != record["name"]:
        raise ConfigError(
            f"--resume: {str(directory)!r} holds a run of {record['name']!r}, not of"
            f" {recipe!r}: leave the recipe away"
        )
    wanted = checked(changed(record["recipe"], changes))
    same = _check_same(record["recipe"], wanted)
    if same and is_finished(directory, record):
        show.say(f"{directory} is finished already")
        return directory, record
    plan = make_plan(wanted)
    if plan.digests != record.get("data"):
        raise DataError(
            f"--resume: the data is not what {str(directory)!r} was begun with: its"
            " SHA-256 differs; put the old data back, or start a new run"
        )
    record |= new_state() | {"recipe": wanted}
    record["resumed"].append(now())
    return _finish(ranks, directory, record, plan)


def _check_same(old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Say whether the length of the run is the old one; raise if more differs."""
    before, after = dict(leaves(old)), dict(leaves(new))
    for key in sorted({*before, *after}):
        if key not in CHANGEABLE and before.get(key) != after.get(key):
            raise ConfigError(
                f"--resume: {key} was {before.get(key)!r:.60}, now it is"
                f" {after.get(key)!r:.60}: go on with the same settings, or start a new"
                " run with --out"
            )
    length, wanted = (r["training"]["epochs"] for r in (old, new))
    if isinstance(wanted, int) and isinstance(length, int) and wanted < length:
        raise ConfigError(
            f"--resume: training.epochs was {length} and can only grow, got {wanted}"
        )
    return bool(length == wanted)


def _finish(ranks: Alone, directory: Path, record: dict[str, Any], plan: Plan) -> Found:
    """Train, save, test and record; what is done already is not done again."""
    training = record["recipe"]["training"]
    ranks.use(**training["ranks"])
    if ranks.rank:
        _fit(ranks, directory, plan)
        return directory, record
    sweep(directory)
    write_record(directory, record | {"ranks": ranks.share[1]})
    try:
        run = _fit(ranks, directory, plan, track=training["track"])
        record["reason"] = run.reason or f"all {run.epochs} epochs are done"
        if run.interrupted:
            write_record(directory, record | {"ended": now()})
            raise KeyboardInterrupt
        wanted = any(stopping.waited >= stopping.patience for stopping in plan.stopping)
        record["failed"] = run.stop and not wanted
        if not record["failed"]:
            plan.finish(directory)
        save(plan.model, directory / MODEL, **plan.notes)
        forget_rounds(directory)
        record["metrics"] = _tested(plan, run, record)
    except KeyboardInterrupt:
        show.say(f"go on with: sillar train --resume {shlex.quote(str(directory))}")
        raise
    record["ended"] = now()
    write_record(directory, record)
    return directory, record


def _fit(ranks: Alone, directory: Path, plan: Plan, *, track: bool = False) -> Run:
    logs = [CSVLog(directory), TensorBoard(directory)] if track else []
    return fit(
        plan.model,
        plan.loss,
        plan.optimizer,
        plan.parts.train,
        callbacks=[*plan.stopping, progress(), *logs],
        run_dir=directory,
        resume=True,  # from the checkpoint, if there is one
        ranks=ranks,
        **plan.arguments,
    )


def _tested(plan: Plan, run: Run, record: dict[str, Any]) -> dict[str, Any]:
    """Return the metrics on the test part; none can be had of a model that diverged."""
    try:
        return measured(plan.model, plan.parts, plan.loss, plan.notes)
    except DataError as error:
        record["failed"] = True
        record["reason"] = run.reason or str(error)
        return {"accuracy": None, "loss": None}
