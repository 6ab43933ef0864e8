"""Graphs of any length are walked and freed without recursion, and nothing leaks."""

import gc
import subprocess
import sys
import weakref

import numpy as np
import pytest

import sillar as sl

LINKS = 200_000


def test_a_long_chain_is_differentiated_and_freed():
    x = sl.Tensor(np.float64(0.5), requires_grad=True)
    y = x
    for _ in range(LINKS):
        y = y + x
    assert sl.grad(y, x).item() == LINKS + 1
    end = weakref.ref(y)
    del y
    assert end() is None


def test_a_long_chain_of_gradients_is_freed():
    x = sl.Tensor(np.float64(0.5), requires_grad=True)
    y = x
    for _ in range(LINKS // 10):
        y = -y
    g = sl.grad(y * y, x, create_graph=True)
    assert sl.grad(g, x).item() == 2.0


def test_a_graph_is_freed_without_the_garbage_collector():
    x = sl.Tensor(np.ones(3), requires_grad=True)
    middle = x * 2.0
    watched = weakref.ref(middle)
    loss = (middle * middle).sum()
    gradient = sl.grad(loss, x, create_graph=True)
    loss.backward()
    gc.disable()
    try:
        del loss, middle, gradient
        assert watched() is None
    finally:
        gc.enable()


TRAINING = """
import gc, sys, psutil
import numpy as np
import sillar as sl
from sillar import nn

class Doubled(nn.Layer):
    def forward(self, x):
        return x * 2.0
    def backward(self, g, x):
        return (g * 2.0,)

if sys.argv[1] == "without":
    gc.disable()
rng = sl.Rng(0)
model = nn.Sequential(
    nn.Dense(4, 8), nn.BatchNorm(8), nn.ReLU(), Doubled(), nn.Dropout(), nn.Dense(8, 3)
).init(rng)
optimizer, loss_of = sl.SGD(1e-3).bind(model.parameters()), sl.CrossEntropy()
x, y = rng.normal((16, 4)), rng.integers(0, 3, 16)

def train(steps):
    for step in range(steps):
        loss = loss_of(model(x, rng=rng.split(step)), y)
        optimizer.step(sl.grad(loss, optimizer.params))

process = psutil.Process()
train(1000)
objects, memory = len(gc.get_objects()), process.memory_info().rss
train(int(sys.argv[2]))
print(len(gc.get_objects()) - objects, process.memory_info().rss - memory)
"""


@pytest.mark.parametrize(("collector", "steps"), [("with", 2000), ("without", 10_000)])
def test_training_steps_leak_nothing(collector, steps):
    command = [sys.executable, "-c", TRAINING, collector, str(steps)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    objects, memory = map(int, done.stdout.split())
    assert objects <= 10
    assert memory < 1 << 20
