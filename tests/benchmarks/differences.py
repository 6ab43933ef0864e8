"""Print how far apart the libraries' losses and outputs are, on few short examples."""

import json

from benchmarks import latency, step
from benchmarks.workloads import WORKLOADS, load


def few(name):
    x, y = load(name, 3)
    return (x[:, :2] if name.startswith("lstm") else x), y


def without_compiling(calls):
    """Leave out torch.compile, which takes long."""
    return {k: call for k, call in calls.items() if k != "torch.compile"}


found = {
    "losses": {
        name: step.distances(without_compiling(step.trainers(name, *few(name))), 3)
        for name in WORKLOADS
        if name != "lstm"  # as lstm-small
    },
    "outputs": {
        name: latency.distances(without_compiling(latency.servers(name, x)), x)
        for name in latency.NAMES
        for x, _ in [few(name)]
    },
}
print(json.dumps(found))
