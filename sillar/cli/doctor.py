"""`sillar doctor`: what the machine has, and what slows training down on it."""

from __future__ import annotations

from typing import Any

from rich.console import RenderableType
from rich.text import Text

from sillar.backends import OPTIONAL, load
from sillar.cli import machine, show
from sillar.errors import DependencyError

LIBRARIES = ("numpy", "threadpoolctl", "typer", "rich")
NEEDED = 2**30  # bytes of memory below which training is in danger


def examine() -> dict[str, Any]:
    """Return versions, back ends, cores, linear algebra, memory and warnings."""
    found: dict[str, Any] = {
        "versions": machine.versions(*LIBRARIES),
        "backends": {name: backend_state(name) for name in ("numpy", *OPTIONAL)},
        "cores": machine.cores(),
        "blas": machine.blas(),
        "memory": machine.memory(),
        "processor": machine.processor(),
    }
    return found | {"warnings": warnings(found)}


def backend_state(name: str) -> str:
    """Return whether a back end is ready, and if not, what it takes."""
    try:
        devices = ", ".join(load(name).devices())
    except DependencyError:
        return f"missing: pip install 'sillar[{name}]'"
    return f"ready, {name} {machine.library_version(name)}, on {devices}"


def warnings(found: dict[str, Any]) -> list[str]:
    """Return what slows training down, each with what to do."""
    usable, pools = found["cores"]["usable"], found["blas"]
    said = []
    for pool in pools:
        name, threads = pool["name"], pool["threads"]
        if threads > usable:
            said.append(
                f"{name} uses {threads} threads on {usable} usable cores, which makes"
                f" them wait for each other: set OMP_NUM_THREADS={usable}"
            )
        if threads < usable:
            said.append(
                f"{name} uses {threads} of {usable} usable cores: unset OMP_NUM_THREADS"
                " and OPENBLAS_NUM_THREADS, or raise them"
            )
    if not pools:
        said.append(
            "NumPy has no known linear algebra library: matrix products will be slow;"
            " install NumPy's own wheel"
        )
    available = found["memory"]["available"]
    if available is not None and available < NEEDED:
        said.append(
            f"only {available // 2**20:,} MiB of memory are free: make batches smaller,"
            " or end other programs"
        )
    flags = found["processor"]["flags"]
    if "sse4_2" in flags and "avx2" not in flags:
        said.append("the processor has no AVX2: matrix products will be slow")
    return said


def tables(found: dict[str, Any]) -> list[RenderableType]:
    """Return what people read of it."""
    cores, memory, processor = found["cores"], found["memory"], found["processor"]
    gibibytes = [
        "unknown" if memory[name] is None else f"{memory[name] / 2**30:.1f} GiB"
        for name in ("available", "total")
    ]
    rows = [
        ("processor", processor["name"]),
        ("instructions", " ".join(processor["flags"]) or "unknown"),
        ("cores", f"{cores['usable']} usable of {cores['machine']}"),
        ("memory", f"{gibibytes[0]} free of {gibibytes[1]}"),
    ]
    for pool in found["blas"]:
        text = "{name} {version}, {kernel}, {threads} threads".format(**pool)
        rows.append(("BLAS", text))
    shown: list[RenderableType] = [
        show.pairs("versions", found["versions"].items()),
        show.pairs("back ends", found["backends"].items()),
        show.pairs("machine", rows),
    ]
    for warning in found["warnings"]:
        shown.append(Text.assemble(("warning: ", "bold yellow"), warning))
    if not found["warnings"]:
        shown.append(Text("nothing here slows training down", style="green"))
    return shown
