import errno
import os
import random
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from sillar.errors import ConfigError
from sillar.files import read_arrays, write_arrays

ROOT = Path(__file__).parents[1]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def test_only_files_are_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path(os.devnull)):
        with pytest.raises(ConfigError, match="a folder or device; choose another"):
            write_arrays(path, {"a": np.ones(1)})
    assert os.listdir(tmp_path) == ["pipe"]
    with pytest.raises(FileNotFoundError):
        write_arrays(tmp_path / "no" / "folder", {"a": np.ones(1)})


def test_file_and_folder_are_synced_around_the_rename(path, monkeypatch):
    calls = []

    def spy(name, call):
        def wrapper(first, *rest):
            kind = first if isinstance(first, str) else os.fstat(first).st_mode
            folder = not isinstance(kind, str) and stat.S_ISDIR(kind)
            calls.append(f"{name} folder" if folder else name)
            return call(first, *rest)

        monkeypatch.setattr(os, name, wrapper)

    spy("fsync", os.fsync)
    spy("replace", os.replace)
    write_arrays(path, {"a": np.ones(3)})
    assert calls == ["fsync", "replace", "fsync folder"]


@pytest.mark.parametrize("step", ["chmod", "fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(errno.EIO, "broken"), KeyboardInterrupt()])
def test_failed_step_leaves_the_old_file(path, monkeypatch, step, error):
    write_arrays(path, {"a": np.ones(3)})
    before = path.read_bytes()

    def fail(*args):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, step, fail)
        with pytest.raises(type(error)):
            write_arrays(path, {"a": np.zeros(3)})
    assert [path.name] == os.listdir(path.parent)
    assert before == path.read_bytes()


def test_permissions_of_an_old_file_stay(path):
    old = os.umask(0o027)
    try:
        write_arrays(path, {"a": np.ones(3)})
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        path.chmod(0o600)
        write_arrays(path, {"a": np.zeros(3)})
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        os.umask(old)


def test_link_is_replaced_and_its_file_left(path):
    other = path.with_name("other")
    other.write_text("other")
    path.symlink_to(other)
    write_arrays(path, {"a": np.ones(3)})
    assert not path.is_symlink()
    assert other.read_text() == "other"


def run(code, *args):
    command = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


FULL_DISK = """
import resource, sys
import numpy as np
from sillar.files import write_arrays
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    write_arrays(sys.argv[1], {"a": np.zeros(10), "b": np.zeros(100_000)})
except OSError as error:
    print(error.errno)
"""


def test_full_disk_leaves_the_old_file(path):
    write_arrays(path, {"a": np.ones(3)})
    before = path.read_bytes()
    with run(FULL_DISK, path) as process:
        assert str(errno.EFBIG) == process.communicate(timeout=60)[0].strip()
    assert before == path.read_bytes()
    assert [path.name] == os.listdir(path.parent)


WRITE_FOREVER = """
import sys
import numpy as np
from sillar.files import write_arrays
n = 20_000
while True:
    arrays = {"a": np.full(n, n), "b": np.full(n, n, "i2")}
    write_arrays(sys.argv[1], arrays, {"n": str(n)})
    print("written", flush=True)
    n = 50_000 - n
"""


def test_killed_writer_leaves_a_whole_file(path):
    for _ in range(6):
        with run(WRITE_FOREVER, path) as process:
            assert process.stdout.readline() == "written\n"
            time.sleep(random.uniform(0, 0.05))
            process.kill()
        arrays, metadata = read_arrays(path)
        n = int(metadata["n"])
        assert n in (20_000, 30_000)
        assert n == len(arrays["a"]) == len(arrays["b"])
        assert all((array == n).all() for array in arrays.values())
