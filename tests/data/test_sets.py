"""Named data sets, fetched from a real server on the loopback address."""

import gzip
import hashlib
import re
import socket

import numpy as np
import pytest
from file_server import serving

from sillar.data import fetch, sets
from sillar.data.sets import File, NamedSet, faults, named_sets
from sillar.errors import ConfigError, DataError

PLAIN = np.random.default_rng(0).bytes(300_000)
NUMBERS = np.random.default_rng(1).bytes(50_000)


def toy():
    files = (
        File("KDD+.bin", len(PLAIN), hashlib.sha256(PLAIN).hexdigest()),
        File("n.gz", 50_100, hashlib.sha256(NUMBERS).hexdigest()),
    )
    home = "https://example.org/toy"
    return NamedSet("toy", "A toy", home, "CC0", "Nobody, 2026", files)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SILLAR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sets, "named_sets", lambda: {"toy": toy()})
    return tmp_path / "cache" / "toy"


@pytest.fixture
def server(tmp_path, monkeypatch):
    folder = tmp_path / "served" / "toy"
    folder.mkdir(parents=True)
    (folder / "KDD+.bin").write_bytes(PLAIN)
    (folder / "n.gz").write_bytes(gzip.compress(NUMBERS))
    with serving(tmp_path / "served") as running:
        monkeypatch.setenv("SILLAR_MIRROR", running.address)
        yield running


def test_files_are_downloaded_verified_and_kept(cache, server):
    seen = []
    assert fetch("toy", report=lambda *piece: seen.append(piece)) == cache
    assert (cache / "KDD+.bin").read_bytes() == PLAIN
    assert gzip.decompress((cache / "n.gz").read_bytes()) == NUMBERS
    assert sorted(p.name for p in cache.iterdir()) == ["KDD+.bin", "n.gz"]
    pieces = [done for name, done, total in seen if name == "KDD+.bin"]
    assert pieces == sorted(pieces)
    assert pieces[-1] == len(PLAIN)
    assert len(pieces) > 3
    asked = len(server.asked)
    fetch("toy")
    assert len(server.asked) == asked == 2
    assert set(faults("toy").values()) == {""}


def test_a_download_that_is_cut_goes_on_where_it_stopped(cache, server):
    server.cuts = [100_000, 0, 0, 50_000]
    fetch("toy")
    assert (cache / "KDD+.bin").read_bytes() == PLAIN
    spans = [span for path, span in server.asked if "KDD" in path]
    expected = [None, *["bytes=100000-"] * 3, "bytes=150000-"]
    assert spans == expected


def test_a_download_goes_on_in_another_process(cache, server):
    cache.mkdir(parents=True)
    (cache / "KDD+.bin.part").write_bytes(PLAIN[:200_000])
    fetch("toy")
    assert server.asked[0][1] == "bytes=200000-"
    assert (cache / "KDD+.bin").read_bytes() == PLAIN
    (cache / "KDD+.bin").rename(cache / "KDD+.bin.part")  # killed before the last step
    fetch("toy")
    assert (cache / "KDD+.bin").read_bytes() == PLAIN


def test_a_server_without_ranges_sends_all_again(cache, server):
    server.ranges, server.cuts = False, [100_000]
    fetch("toy")
    assert (cache / "KDD+.bin").read_bytes() == PLAIN


def test_a_server_that_always_cuts_is_given_up(cache, server, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    server.cuts = [1000] + [0] * 100
    with pytest.raises(DataError, match=r"no way to 127.*cut\); check the network"):
        fetch("toy")
    assert len(server.asked) < 10
    assert (cache / "KDD+.bin.part").stat().st_size == 1000


def test_wrong_bytes_are_refused_and_not_kept(cache, server):
    server.change = lambda data: data[:-1] + bytes([data[-1] ^ 1])
    with pytest.raises(DataError, match=r"is not the file: expected SHA-256 \w+\.\.\."):
        fetch("toy")
    assert list(cache.iterdir()) == []
    server.change = lambda data: data
    fetch("toy")


def test_a_part_of_another_file_is_found_out(cache, server):
    cache.mkdir(parents=True)
    (cache / "KDD+.bin.part").write_bytes(b"x" * 1000)
    with pytest.raises(DataError, match="is not the file"):
        fetch("toy")
    (cache / "KDD+.bin.part").write_bytes(b"x" * (len(PLAIN) + 5))  # 416
    fetch("toy")
    assert (cache / "KDD+.bin").read_bytes() == PLAIN


def test_an_endless_file_is_stopped(cache, server):
    server.change = lambda data: data * 10
    with pytest.raises(DataError, match="this is another file"):
        fetch("toy")


def test_a_missing_file_says_what_the_server_said(cache, server):
    (server.folder / "toy" / "n.gz").unlink()
    with pytest.raises(DataError, match=r"/toy/n\.gz answers 404 Not Found; get the"):
        fetch("toy")
    assert (cache / "KDD+.bin").exists()


def test_without_a_network_there_is_one_clear_sentence(cache, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        monkeypatch.setenv("SILLAR_MIRROR", f"http://{address}")
        with pytest.raises(DataError) as caught:
            fetch("toy")
    said = str(caught.value)
    assert said.startswith(f"data: toy: no way to {address} (")
    assert said.endswith("or pass --from DIR, a folder that has the files")
    assert "\n" not in said


def test_a_folder_will_do(cache, server, monkeypatch):
    monkeypatch.delenv("SILLAR_MIRROR")
    for folder in (server.folder, server.folder / "toy"):
        for path in cache.glob("*"):
            path.unlink()
        fetch("toy", folder=folder)
        assert set(faults("toy").values()) == {""}
    assert server.asked == []
    (server.folder / "toy" / "n.gz").write_bytes(gzip.compress(NUMBERS)[:-9])
    assert "damaged" in faults("toy", server.folder)["n.gz"]
    (cache / "n.gz").unlink()
    with pytest.raises(DataError, match=r"n\.gz' is not the file.*example\.org/toy"):
        fetch("toy", folder=server.folder)


def test_addresses_and_names_are_checked(cache, monkeypatch):
    monkeypatch.delenv("SILLAR_MIRROR", raising=False)
    with pytest.raises(ConfigError, match=r"cannot be downloaded.*example\.org/toy"):
        fetch("toy")
    monkeypatch.setenv("SILLAR_MIRROR", "file:///etc")
    with pytest.raises(ConfigError, match="begins with https:// or http://, got"):
        fetch("toy")
    with pytest.raises(ConfigError, match="unknown data set 'no'; known are toy"):
        fetch("no")


def test_the_cache_is_where_users_expect_it(monkeypatch, tmp_path):
    monkeypatch.delenv("SILLAR_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert sets.cache_folder() == tmp_path / "sillar"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert sets.cache_folder() == tmp_path / ".cache" / "sillar"


def test_every_row_of_the_table_is_complete():
    found = named_sets()
    assert len(found) > 10
    for name, one in found.items():
        assert name == one.name
        assert one.home.startswith(("https://", "http://"))
        assert all((one.what, one.licence, one.citation, one.files))
        for file in one.files:
            assert re.fullmatch("[0-9a-f]{64}", file.sha256)
            assert file.size > 0
            assert not file.address or file.address.startswith("https://")


def test_the_table_is_true_of_the_public_files(shared_data):
    for name in named_sets():
        assert set(faults(name, shared_data).values()) == {""}, name
