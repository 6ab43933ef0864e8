"""What each rank runs, for `test_mpi.py`: python mpi_program.py JSON."""

import json
import os
import signal
import sys
import time

import numpy as np

import sillar as sl
from sillar import nn, optim
from sillar.backends.numpy import threads
from sillar.distributed.mpi import Ranks


class Centred(nn.Layer):
    """A layer of one's own that looks at all examples of a batch."""

    mixes_batch = True

    def forward(self, x):
        return x - x.mean(axis=0)


MODELS = {
    "own": lambda: [nn.Flatten(), Centred(), nn.Dense(64, 10)],
    "dense": lambda: [nn.Flatten(), nn.Dense(64, 24), nn.Tanh(), nn.Dense(24, 10)],
    "dropout": lambda: [
        *(nn.Flatten(), nn.Dense(64, 24), nn.ReLU(), nn.Dropout(0.3)),
        nn.Dense(24, 10),
    ],
    "norm": lambda: [
        *(nn.Conv2D(1, 6, kernel=3), nn.BatchNorm(6), nn.Tanh(), nn.Flatten()),
        *(nn.Dense(216, 16), nn.BatchNorm(16), nn.Tanh(), nn.Dense(16, 10)),
    ],
}
LOSSES = {
    "mean": nn.CrossEntropy,
    "sum": lambda: nn.CrossEntropy(reduction="sum"),
    "weighted": lambda: nn.CrossEntropy(weights=[1, 5, *[0.5] * 8]),
    "ignoring": lambda: nn.CrossEntropy(ignore_index=3),
    "focal": nn.Focal,
}
TRANSFORMS = {
    "accumulate": lambda: [optim.Accumulate(2)],
    "clip": lambda: [optim.SkipNonFinite(), optim.ClipNorm(0.5)],
}


class Fault(sl.Callback):
    """Let one rank do something at one step."""

    def __init__(self, what, rank, step):
        self.what, self.rank, self.step = what, rank, step

    def on_step(self, run):
        if run.ranks.rank == self.rank and run.step == self.step:
            print(f"fault at {time.time()}", flush=True)
            getattr(self, self.what)(run)

    def kill(self, run):
        os.kill(os.getpid(), signal.SIGKILL)

    def segfault(self, run):
        os.kill(os.getpid(), signal.SIGSEGV)

    def stop(self, run):
        os.kill(os.getpid(), signal.SIGSTOP)

    def sleep(self, run):
        time.sleep(1000)

    def leave(self, run):
        os._exit(0)

    def fail(self, run):
        raise ValueError("a fault that was put there")

    def end(self, run):
        run.end("enough")

    def interrupt(self, run):
        run.interrupt()

    def weights(self, run):
        run.optimizer.params.vector[0] += 1


def main(given):
    """Train as told; the first rank prints what came of it."""
    threads.set_threads(1)
    settings = given.get("ranks", {})
    ranks = None if given.get("alone") else Ranks(**settings)
    rank = ranks.rank if ranks else 0
    data = sl.data.digits()[: given.get("rows", 403)]
    if given.get("other") == rank:
        data = sl.data.digits()[5:408]
    model = nn.Sequential(*MODELS[given.get("model", "dense")]())
    model.init(sl.Rng(rank if given.get("drawn") else 0), given.get("dtype", "float32"))
    if given.get("backend"):
        model.to(given["backend"])
    fault = [Fault(*given["fault"])] if "fault" in given else []
    run = sl.fit(
        *(model, LOSSES[given.get("loss", "mean")]()),
        *(optim.SGD(lr=0.05, momentum=0.9), data),
        epochs=given.get("epochs", 2),
        batch_size=given.get("batch_size", 32),
        validation=given.get("validation"),
        callbacks=[*fault, *([sl.Progress()] if given.get("progress") else [])],
        transforms=TRANSFORMS[given["transforms"]]() if "transforms" in given else [],
        run_dir=given.get("run_dir"),
        resume=given.get("resume", False),
        precision=given.get("precision", "float32"),
        **({"ranks": ranks} if ranks else {}),
    )
    if rank == 0:
        state = {name: np.array(a) for name, a in model.state().items()}
        np.savez(given["out"], **state)
        found = {"steps": run.step, "reason": run.reason, "history": run.history}
        found["eager"] = run.gradients.eager_because
        if ranks:
            found |= {"bytes": ranks.sum.bytes, "seconds": ranks.seconds}
        print(json.dumps(found))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
