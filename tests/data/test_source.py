"""What every reader does with a path, and how it reads without trust."""

import gzip
import os
import socket
import struct
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from sillar.data import read_csv, read_idx, read_npy, read_npz
from sillar.errors import ConfigError, DataError

READERS = [read_idx, read_csv, read_npy, read_npz]
unix = pytest.mark.skipif(sys.platform == "win32", reason="needs Unix files")


def refused(reader, path, message):
    """Check that one error names the reader, the file, and says `message`."""
    with pytest.raises(DataError, match=message) as caught:
        reader(path)
    assert str(caught.value).startswith(f"{reader.__name__}: {str(path)!r}: expected")
    assert "; " in str(caught.value)


@pytest.mark.parametrize("reader", READERS)
def test_a_missing_file(reader, tmp_path):
    refused(reader, tmp_path / "none", "nothing at this path; check the spelling")


@pytest.mark.parametrize("reader", READERS)
def test_a_folder(reader, tmp_path):
    refused(reader, tmp_path, "a regular file, got a folder")


@pytest.mark.parametrize("reader", READERS)
def test_an_empty_file(reader, tmp_path):
    path = tmp_path / "empty"
    path.touch()
    refused(reader, path, "got an empty file")


@unix
@pytest.mark.timeout(10)
@pytest.mark.parametrize("reader", READERS)
def test_a_pipe_is_not_waited_for(reader, tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    refused(reader, path, "a regular file, got a pipe, socket or device")


@unix
@pytest.mark.parametrize("reader", READERS)
def test_devices_and_sockets(reader, tmp_path, monkeypatch):
    refused(reader, Path("/dev/zero"), "got a pipe, socket or device")
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as endpoint:
        endpoint.bind("socket")
        refused(reader, Path("socket"), "got a pipe, socket or device")


@unix
def test_a_pipe_put_in_place_after_the_check(tmp_path, monkeypatch):
    path, innocent = tmp_path / "pipe", tmp_path / "file"
    os.mkfifo(path)
    innocent.touch()
    status = os.stat(innocent)
    monkeypatch.setattr(os, "stat", lambda _: status)
    refused(read_npy, path, "got a pipe, socket or device")


@unix
def test_a_link_is_followed_and_a_circle_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(3))
    (tmp_path / "link").symlink_to(tmp_path / "a.npy")
    assert read_npy(tmp_path / "link").tolist() == [0, 1, 2]
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    refused(read_npy, tmp_path / "circle", "can be opened, got: .*symbolic links")


@unix
def test_a_file_without_permission(tmp_path, monkeypatch):
    def deny(name, flags):
        raise PermissionError(13, "Permission denied")

    path = tmp_path / "secret"
    path.write_bytes(b"1")
    monkeypatch.setattr(os, "open", deny)
    refused(read_csv, path, "got: Permission denied; check the path")


@pytest.mark.parametrize("reader", READERS)
def test_names_that_are_no_path(reader):
    refused(reader, "a\0b", "can be opened, got: .*null")
    refused(reader, "a" * 5000, "can be opened, got: ")
    for path in (0, None, 1.5, [b"a"]):
        with pytest.raises(ConfigError, match="expected a path, got"):
            reader(path)


def test_a_path_may_be_text_bytes_or_a_path(tmp_path):
    path = tmp_path / "ä.npy"
    np.save(path, np.arange(3))
    for spelling in (path, str(path), os.fsencode(path)):
        assert read_npy(spelling).tolist() == [0, 1, 2]


@unix
def test_names_with_odd_bytes_stay_printable(tmp_path):
    path = os.fsencode(tmp_path) + b"/\xff\n"
    with pytest.raises(DataError, match=r"\\udcff\\n") as caught:
        read_idx(path)
    str(caught.value).encode()


# Memory follows what really comes


def peak_of(reader, path):
    """Return the most bytes of memory a refused read held."""
    tracemalloc.start()
    try:
        with pytest.raises(DataError):
            reader(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_header_that_claims_a_trillion_elements(tmp_path):
    head = struct.pack(">4B2I", 0, 0, 8, 2, 10**6, 10**6)
    (tmp_path / "plain").write_bytes(head + bytes(100))
    (tmp_path / "packed.gz").write_bytes(gzip.compress(head + bytes(100)))
    for name in ("plain", "packed.gz"):
        assert peak_of(read_idx, tmp_path / name) < 2**21


def test_a_gzip_bomb_is_left_once_it_exceeds_its_header(tmp_path):
    head = struct.pack(">4BI", 0, 0, 8, 1, 10)
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(head + bytes(2**25), 1))
    assert peak_of(read_idx, tmp_path / "bomb.gz") < 2**21


def test_a_truncated_claim_takes_memory_for_what_is_there(tmp_path):
    head = struct.pack(">4BI", 0, 0, 8, 1, 2**25)
    noise = np.random.default_rng(0).bytes(2**17)
    (tmp_path / "short.gz").write_bytes(gzip.compress(head + noise, 1))
    assert peak_of(read_idx, tmp_path / "short.gz") < 2**22


def test_array_data_is_read_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr("sillar.data.source._PIECE", 7)
    np.save(tmp_path / "a.npy", np.arange(100))
    assert read_npy(tmp_path / "a.npy").tolist() == list(range(100))


def test_a_file_cut_while_it_is_read(tmp_path, monkeypatch):
    path = tmp_path / "a.npy"
    np.save(path, np.zeros(10**6))
    monkeypatch.setattr(os, "fstat", lambda _: WHOLE)
    WHOLE = os.stat(path)
    os.truncate(path, 10**5)
    refused(read_npy, path, "expected 8,000,000 bytes .* got .*; the file is truncated")
