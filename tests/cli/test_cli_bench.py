"""`sillar bench scaling`: real ranks, and a formula that follows from them."""

import json
import sys

import pytest

from sillar.cli import bench
from sillar.errors import ConfigError, DependencyError

pytest.importorskip("mpi4py", reason="needs mpi4py: pip install 'sillar[mpi]'")


def test_a_step_is_measured_on_ranks_and_foretold_for_machines(in_process):
    arguments = ["--ranks", "1,3", "--steps", "4", "--batch-size", "96", "--json"]
    out = in_process("bench", "scaling", "digits", *arguments)
    found = json.loads(out.splitlines()[-1])
    one, three = found["rows"]
    assert (one["ranks"], three["ranks"]) == (1, 3)
    assert one["bytes"] == 0
    assert one["efficiency"] == 1
    # each of three ranks sends two thirds of the gradient, and two thirds of the sum
    assert three["bytes"] == pytest.approx(three["gradient"] * 4 / 3, rel=0.01)
    assert 0 < three["communication"] < three["seconds"]
    expected = one["seconds"] / (3 * three["seconds"])
    assert three["efficiency"] == pytest.approx(expected)
    assert [row["machines"] for row in found["predicted"]] == list(bench.MACHINES)
    shown = "\n".join(str(part) for part in bench.tables(found))
    assert "T(N) = T(1) / N" in shown


def test_latency_and_bandwidth_are_found_again():
    def seconds(n, size):
        return 2 * (n - 1) * 2e-5 + 2 * (n - 1) / n * size / 3e9

    points = [(n, b, seconds(n, b)) for n in (2, 4) for b in (2**10, 2**18, 2**24)]
    latency, bandwidth = bench.fitted(points)
    assert latency == pytest.approx(2e-5)
    assert bandwidth == pytest.approx(3e9)


def test_the_formula_is_that_of_the_page():
    found = bench.predict(4, 0.4, 8 * 10**6, 1e-4, 1e9)
    assert found["communication"] == pytest.approx(2 * 3 * 1e-4 + 2 * 3 / 4 * 8e-3)
    assert found["seconds"] == pytest.approx(0.1 + found["communication"])
    assert found["efficiency"] == pytest.approx(0.4 / (4 * found["seconds"]))


@pytest.mark.parametrize("ranks", ["0", "two", "1,,2", "-1", ""])
def test_numbers_of_ranks_are_numbers(ranks):
    with pytest.raises(ConfigError, match="--ranks must be numbers"):
        bench._numbers(ranks)


def test_a_launcher_that_is_not_there_or_does_not_launch_is_named():
    with pytest.raises(DependencyError, match="no command 'mpirum'"):
        bench.scaling("digits", [2], launcher="mpirum")
    with pytest.raises(ConfigError, match="code 1: there is no recipe"):
        bench.scaling("digitz", [1])
    # a Python that ignores -n N runs the program, but only once
    with pytest.raises(ConfigError, match="ended with code"):
        bench.scaling("digits", [2], steps=1, launcher=sys.executable)
