"""`sillar bench`: how training scales over ranks, and where it would end."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
import typer

from sillar.cli import show
from sillar.cli.options import Changes, Data, Debug, Json
from sillar.cli.recipe import parse_change
from sillar.errors import ConfigError, DependencyError

FORMULA = "T(N) = T(1) / N + 2 (N - 1) latency + 2 (N - 1) / N * gradient / bandwidth"
MACHINES = (2, 4, 8, 16, 32, 64)

app = typer.Typer(help="Measure on this machine.", add_completion=False)


@app.callback()
def bench() -> None:
    """Measure on this machine."""


@app.command("scaling")
def scaling_command(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE|FILE.toml", help="What is trained.")
    ] = "digits",
    data: Data = None,
    ranks: Annotated[
        str, typer.Option(metavar="N,N,...", help="Numbers of ranks.")
    ] = "1,2,4",
    batch_size: Annotated[
        int, typer.Option(metavar="N", min=1, help="Examples in one step of all ranks.")
    ] = 256,
    steps: Annotated[
        int, typer.Option(metavar="N", min=1, help="Steps that are measured.")
    ] = 50,
    launcher: Annotated[
        str, typer.Option(metavar="COMMAND", help="What starts ranks; -n N follows.")
    ] = "mpiexec",
    changes: Changes = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Time a training step on 1, 2, 4 ranks, and what more machines would bring."""
    given = [parse_change(text) for text in changes or []]
    given.append(("training.batch_size", batch_size))
    if data is not None:
        given.append(("data.folder", str(data.absolute())))
    found = scaling(recipe, _numbers(ranks), given, steps, launcher)
    if as_json:
        show.as_json(found)
    else:
        show.put(*tables(found))


def scaling(
    recipe: str,
    counts: Sequence[int],
    changes: Sequence[tuple[str, Any]] = (),
    steps: int = 50,
    launcher: str = "mpiexec",
) -> dict[str, Any]:
    """Return times, bytes and efficiency by number of ranks, and what follows."""
    task = {"recipe": recipe, "changes": list(changes), "steps": steps}
    rows = [_measured(count, task, launcher) for count in counts]
    points = [(row["ranks"], *point) for row in rows for point in row.pop("probe")]
    first = rows[0]
    base = first["seconds"] * first["ranks"]
    for row in rows:
        row["efficiency"] = base / (row["seconds"] * row["ranks"])
    found = {"recipe": recipe, "cores": os.cpu_count(), "rows": rows}
    if not points:
        return found
    latency, bandwidth = fitted(points)
    work = first["seconds"] - first["communication"]
    predicted = [
        predict(n, work * first["ranks"], first["gradient"], latency, bandwidth)
        for n in MACHINES
    ]
    link = {"latency": latency, "bandwidth": bandwidth, "formula": FORMULA}
    return found | link | {"predicted": predicted}


def fitted(points: Sequence[tuple[int, int, float]]) -> tuple[float, float]:
    """Return latency in seconds and bandwidth in bytes a second, by least squares.

    Points are ranks n, bytes b and seconds t = 2 (n - 1) latency + 2 (n - 1) / n * b /
    bandwidth; errors count relative to t.
    """
    n, b, t = np.array(points, float).T
    columns = np.stack([2 * (n - 1) / t, 2 * (n - 1) / n * b / t], axis=1)
    (latency, per_byte), *_ = np.linalg.lstsq(columns, np.ones_like(t), rcond=None)
    return max(float(latency), 0.0), 1 / max(float(per_byte), 1e-15)


def predict(
    n: int, work: float, gradient: int, latency: float, bandwidth: float
) -> dict[str, float]:
    """Return the time of a step on n machines by the formula, and the efficiency."""
    sending = 2 * (n - 1) * (latency + gradient / n / bandwidth)
    seconds = work / n + sending
    share = {"machines": n, "seconds": seconds, "communication": sending}
    return share | {"efficiency": work / (n * seconds)}


def tables(found: dict[str, Any]) -> list[Any]:
    """Return the result as tables."""
    columns = ["ranks", "step, ms", "sending, ms", "efficiency", "sent, MB"]
    rows = [
        [
            str(row["ranks"]),
            f"{row['seconds'] * 1e3:.3f}",
            f"{row['communication'] * 1e3:.3f}",
            f"{row['efficiency']:.2f}",
            f"{row['bytes'] / 1e6:.3f}",
        ]
        for row in found["rows"]
    ]
    examples, cores = found["rows"][0]["examples"], found["cores"]
    title = f"{found['recipe']}, {examples} examples a step, {cores} cores here"
    parts = [show.table(title, columns, rows)]
    if "predicted" not in found:
        return parts
    rows = [
        [
            str(row["machines"]),
            f"{row['seconds'] * 1e3:.3f}",
            f"{row['communication'] * 1e3:.3f}",
            f"{row['efficiency']:.2f}",
        ]
        for row in found["predicted"]
    ]
    link = (
        f"measured: latency {found['latency'] * 1e6:.1f} us, bandwidth"
        f" {found['bandwidth'] / 1e9:.2f} GB/s; the part by sending includes waiting"
    )
    title = "by formula, for machines with such a link between them"
    predicted = show.table(title, ["machines", *columns[1:4]], rows)
    return [*parts, predicted, f"{found['formula']}\n{link}"]


def _measured(count: int, task: dict[str, Any], launcher: str) -> dict[str, Any]:
    """Return what so many ranks have measured."""
    own = [sys.executable, "-m", "sillar.cli.scaling", json.dumps(task)]
    command = own if count == 1 else [*_launcher(launcher), "-n", str(count), *own]
    limits = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "1")
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | limits, check=False
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        raise ConfigError(
            f"bench scaling: {count} ranks ended with code {done.returncode}:"
            f" {done.stderr.strip()[-600:]}"
        )
    found: dict[str, Any] = json.loads(lines[-1])
    if found["ranks"] != count:
        raise ConfigError(
            f"bench scaling: expected {count} ranks that know of each other, got"
            f" {found['ranks']}: mpi4py and {launcher!r} belong to different MPIs"
        )
    return found


def _launcher(text: str) -> list[str]:
    """Return the command that starts ranks, from beside Python or from the PATH."""
    name, *rest = shlex.split(text) or [""]
    beside = sysconfig.get_path("scripts")
    found = shutil.which(name, path=f"{beside}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        raise DependencyError(
            f"bench scaling: there is no command {name!r}: pip install 'sillar[mpi]'"
            " brings mpiexec, or name another with --launcher"
        )
    return [found, *rest]


def _numbers(text: str) -> list[int]:
    words = text.split(",")
    if not all(word.strip().isdigit() and int(word) for word in words):
        raise ConfigError(
            f"bench scaling: --ranks must be numbers like 1,2,4, got {text!r:.60}"
        )
    return sorted({int(word) for word in words})
