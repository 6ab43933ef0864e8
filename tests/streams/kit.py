"""A model of logs, lines like those of a server, and what their scores must cover."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import sillar as sl
from sillar import nn
from sillar.data import LogWindows

ROOT = Path(__file__).parents[2]
KINDS = (
    "{t} sshd[{n}]: Accepted password for ada from 10.0.{a}.{b} port {n}",
    "{t} sshd[{n}]: Failed password for root from 10.0.{a}.{b} port {n} ssh2",
    "{t} sshd[{n}]: Connection closed by 10.0.{a}.{b}",
    "{t} cron[{n}]: session opened for user eve",
    "{t} kernel: eth{a} link up",
)


def lines_of(count, seed=0):
    """Return so many lines, no two equal, as a server would write them."""
    rng = random.Random(seed)
    found = []
    for i in range(count):
        kind = rng.choice(KINDS)
        a, b, n = rng.randrange(256), rng.randrange(256), rng.randrange(65536)
        found.append(kind.format(t=f"{seed}:{i:08d}", a=a, b=b, n=n))
    return found


def saved_model(folder, window=20):
    """Save an autoencoder of windows; return the file's path."""
    windows = LogWindows(window).fit(lines_of(2000, seed=99))
    x = windows(lines_of(2000, seed=98))
    n = x.shape[1]
    layers = nn.Dense(n, 4), nn.Tanh(), nn.Dense(4, n)
    data, rule = sl.data.Dataset(x, x), sl.Adam(1e-2)
    trained = nn.Sequential(*layers)
    sl.fit(trained, nn.MSE(), rule, data, epochs=5, callbacks=())
    path = Path(folder) / "model.safetensors"
    model = nn.Sequential(nn.ReconstructionError(*layers))
    sl.save(model, path, encoder=windows)
    return path


def started(*arguments):
    """Start `sillar follow` as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "sillar", "follow", *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process, number=signal.SIGTERM):
    """End a process; return its code and what it said on standard error."""
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    return process.returncode, said


def records(out):
    """Return the whole records of an output."""
    text = out.read_text() if out.exists() else ""
    return [
        json.loads(line) for line in text.splitlines(keepends=True) if line[-1] == "\n"
    ]


def covered(found):
    """Return each source's end; raise if windows overlap or leave something out."""
    ends = {}
    for record in found:
        at = ends.get(record["source"], 0)
        assert record["start"] == at, (record, at)
        assert record["end"] > at
        ends[record["source"]] = record["end"]
    return ends


def wait_for(condition, seconds=20):
    """Wait until something holds."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)
