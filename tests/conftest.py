"""What tests share: where the public data sets lie, and that CI skips nothing."""

import os
import resource
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of public data sets, SILLAR_DATA or ../shared/data."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("SILLAR_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no data sets in {folder}; point SILLAR_DATA at their folder")
    return folder


@pytest.fixture(autouse=True)
def no_programs_are_kept(request):
    """Forget what JAX compiled for tests: thousands of programs take gigabytes."""
    yield
    if "jax" in request.node.nodeid and "jax" in sys.modules:
        held = int(Path("/proc/self/statm").read_text().split()[1])
        if held * resource.getpagesize() > 2e9:
            sys.modules["jax"].clear_caches()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """In CI, where everything is installed, a skipped test has failed."""
    report = yield
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not allow: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    """A module that skips itself has failed, too."""
    report = yield
    if os.environ.get("CI") and report.outcome == "skipped":
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not allow: {report.longrepr}"
    return report
