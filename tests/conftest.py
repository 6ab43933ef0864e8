"""What tests share: where the public data sets lie."""

import os
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
