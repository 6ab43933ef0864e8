"""What a result was measured on, and where it is kept."""

import importlib.metadata
import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

import sillar

RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, object]:
    """Return date, versions, processor and cores."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "sillar": sillar.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
    }


def versions(*packages: str) -> dict[str, str]:
    """Return the installed versions of packages."""
    return {name: importlib.metadata.version(name) for name in packages}


def processor() -> str:
    """Return the processor's name and widest vector instructions."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    named = {key.strip(): value.strip() for key, value in fields.items()}
    wide = [f for f in ("avx512f", "avx2") if f in named.get("flags", "").split()]
    return f"{named.get('model name', platform.machine())} {' '.join(wide[:1])}".strip()


def keep(name: str, result: dict[str, object]) -> Path:
    """Write a result beside the others and return its path."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"machine": machine(), **result}, indent=1) + "\n")
    return path
