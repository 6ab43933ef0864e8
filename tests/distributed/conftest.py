"""A real cluster of Dask: two worker processes on this machine."""

import os
import signal
import time

import pytest


@pytest.fixture(scope="session")
def cluster():
    """Yield a LocalCluster of 2 processes with 400 MiB each."""
    distributed = pytest.importorskip("distributed")
    cluster = distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=True,
        memory_limit="400MiB",
        dashboard_address=":0",
        host="127.0.0.1",
    )
    with cluster:
        yield cluster


@pytest.fixture
def client(cluster):
    """Yield a client of the cluster once both workers are there."""
    from distributed import Client

    with Client(cluster, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=30)
        yield client


@pytest.fixture
def kill(client):
    """Return a function that ends one worker process at once, as kill -9 does."""

    def end():
        pid = min(client.run(os.getpid).values())
        os.kill(pid, signal.SIGKILL)
        return pid

    yield end
    deadline = time.monotonic() + 30
    while len(client.ncores()) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
