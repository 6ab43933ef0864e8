"""A training run in a process of its own, which may kill itself at a given moment.

    python -m tests.train.killed_run DIRECTORY [MOMENT N]

Moments: the n-th `on_start`, `on_step`, `on_epoch_end`; `write`, amid the arrays of a
checkpoint; `flush`, before (odd n) and after (even n) a checkpoint takes its place.
"""

import os
import signal
import sys
from itertools import count
from pathlib import Path

import sillar as sl
from sillar import files
from tests.train.kit import Do, blobs, rich_net

EPOCHS = 3


def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def killing(function, n):
    """Return `function`, deadly when it is called for the n-th time."""
    calls = count(1)

    def deadly(*args):
        if next(calls) == n:
            die()
        return function(*args)

    return deadly


def main(directory, moment=None, n=0):
    callbacks = [
        sl.EarlyStopping(patience=2),
        sl.every(steps=4)(sl.Checkpoint(directory)),
    ]
    if moment == "write":
        files._bytes = killing(files._bytes, n)
    elif moment == "flush":
        os.fsync = killing(os.fsync, n)
    elif moment is not None:
        callbacks.append(Do(**{moment: killing(lambda run: None, n)}))
    model = rich_net()
    sl.fit(
        model,
        sl.CrossEntropy(),
        sl.AdamW(sl.CosineAnnealing(0.05, steps=30)),
        blobs(90),
        validation=0.2,
        epochs=EPOCHS,
        batch_size=8,
        seed=3,
        callbacks=callbacks,
        transforms=[sl.SkipNonFinite(), sl.Accumulate(2), sl.ClipNorm(1.0)],
        penalty=sl.L2(0.01, where="*weight"),
        run_dir=directory,
        resume=True,
    )
    sl.save(model, Path(directory) / "model.safetensors")


if __name__ == "__main__":
    print("ready", flush=True)
    given = sys.argv[1:]
    main(*given[:2], *map(int, given[2:]))
