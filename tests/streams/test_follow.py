"""Logs in real time: real files that rotate, real clients, and `kill -9`."""

import os
import random
import shutil
import signal
import socket
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import sillar as sl
from sillar import nn
from sillar.data import LogTokenizer, LogWindows
from sillar.errors import ConfigError, DataError, FormatError
from sillar.streams import Follower, Parser, follow, send_lines
from tests.streams.kit import (
    covered,
    ended,
    lines_of,
    records,
    saved_model,
    started,
    wait_for,
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return saved_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def logs(tmp_path):
    folder = tmp_path / "logs"
    folder.mkdir()
    return folder


@pytest.fixture
def out(tmp_path):
    return tmp_path / "scores.jsonl"


def append(path, lines):
    with path.open("a") as file:
        file.write("".join(f"{line}\n" for line in lines))


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_windows_are_counts_of_templates():
    windows = LogWindows(3).fit(["a b 1", "c d", "a b 2"])
    found = windows(["a b 7", "a b 8", "c d", "x y z", "c d", "c d", "a b 1"])
    np.testing.assert_allclose(np.expm1(found), [[0, 2, 1], [1, 0, 2]], rtol=1e-6)
    assert found.dtype == np.float32
    again = LogWindows.build(windows.describe())
    np.testing.assert_array_equal(again(["c d"] * 3), windows(["c d"] * 3))
    assert windows([]).shape == (0, 3)
    with pytest.raises(ConfigError, match="window must be an integer >= 1"):
        LogWindows(0)
    for wrong in ({}, {"type": "LogWindows", "window": -1, "tokenizer": {}}, 7):
        with pytest.raises(FormatError):
            LogWindows.build(wrong)


def test_the_parser_gives_the_tokenizers_numbers():
    lines = [*lines_of(3000), "", "  ", "é 1", "a\tb", "\x00", "x" * 5000, "1 2 3"]
    tokenizer = LogTokenizer().fit(lines[:1500])
    block = "".join(f"{line}\n" for line in lines).encode() + b"\xff\xfe bad\n"
    found = Parser(tokenizer)(block)
    expected = tokenizer([*lines, "�� bad"])
    np.testing.assert_array_equal(found, expected)
    assert len(Parser(tokenizer)(b"")) == 0


def test_scores_are_those_of_the_model_on_windows(model, logs, out):
    lines = lines_of(1010)
    append(logs / "a.log", lines)
    counts = follow(model, out, folder=logs, once=True)
    found = records(out)
    assert (counts.lines, counts.windows, len(found)) == (1010, 51, 51)
    expected = sl.predict(sl.load(model), sl.load_encoder(model)(lines))[:, 0]
    got = [record["score"] for record in found[:50]]
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
    assert [record["lines"] for record in found] == [*[20] * 50, 10]
    size = (logs / "a.log").stat().st_size
    assert list(covered(found).values()) == [size]


def test_classes_and_alarms_are_in_the_records(logs, out, tmp_path):
    windows = LogWindows(10).fit(lines_of(500))
    layers = nn.Dense(windows.size, 3)
    classifier = nn.Sequential(layers).init(sl.Rng(0))
    path = tmp_path / "classes.safetensors"
    sl.save(classifier, path, encoder=windows, classes=["quiet", "scan", "attack"])
    append(logs / "a.log", lines_of(100))
    follow(path, out, folder=logs, once=True)
    assert {r["class"] for r in records(out)} <= {"quiet", "scan", "attack"}
    assert all(1 / 3 <= r["score"] <= 1 for r in records(out))
    single = nn.Sequential(nn.Dense(windows.size, 1)).init(sl.Rng(0))
    sl.save(single, path, encoder=windows, threshold={"value": -1e9})
    counts = follow(path, tmp_path / "alarms.jsonl", folder=logs, once=True)
    assert counts.alarms == counts.windows == 10


def test_a_rotated_directory_is_read_whole(model, logs, out):
    """Renamed, copied and cut, deleted, packed, linked: each line is scored once."""
    process = started(model, logs, "--out", out, "--delay", "0.1")
    sizes = 0
    try:
        for turn in range(4):
            append(logs / "app.log", lines_of(333, seed=turn))
            sizes += (logs / "app.log").stat().st_size
            os.rename(logs / "app.log", logs / f"app.log.{turn}")
        append(logs / "cut.log", lines_of(250, seed=7))
        sizes += (logs / "cut.log").stat().st_size
        total = lambda: sum(covered(records(out)).values())  # noqa: E731
        wait_for(lambda: total() == sizes)
        append(logs / "cut.log", lines_of(50, seed=8))
        shutil.copy(logs / "cut.log", logs / "cut.log.1")
        sizes += (logs / "cut.log.1").stat().st_size - sum(
            len(f"{line}\n") for line in lines_of(250, seed=7)
        )
        os.truncate(logs / "cut.log", 0)
        time.sleep(0.6)
        append(logs / "cut.log", lines_of(40, seed=9))
        sizes += (logs / "cut.log").stat().st_size
        (logs / "old.log.gz").write_bytes(b"packed\n" * 100)
        os.symlink("/etc/passwd", logs / "link.log")
        (logs / "sub").mkdir()
        wait_for(lambda: total() == sizes)
        time.sleep(0.5)
    finally:
        code, _ = ended(process)
    assert code == 0
    assert total() == sizes
    assert sum(r["lines"] for r in records(out)) == 4 * 333 + 250 + 50 + 40


def test_a_thousand_files_are_read_with_few_of_them_open(model, logs, out):
    for i in range(1000):
        append(logs / f"{i:04}.log", [f"file {i}", *lines_of(3, seed=i)])
    most = []

    def note(*_):
        most.append(len(list(Path("/proc/self/fd").iterdir())))

    follow(model, out, folder=logs, once=True, on_batch=note)
    append(logs / "0500.log", lines_of(5))
    follow(model, out, folder=logs, once=True, on_batch=note)
    found = records(out)
    assert sum(record["lines"] for record in found) == 4005
    assert len(covered(found)) == 1000
    assert max(most) < 400


def test_a_last_line_waits_for_its_end(model, logs, out):
    (logs / "a.log").write_text("one 1\ntwo")
    follow(model, out, folder=logs, once=True)
    assert [(r["lines"], r["end"]) for r in records(out)] == [(1, 6)]
    with (logs / "a.log").open("a") as file:
        file.write(" 2\n")
    follow(model, out, folder=logs, once=True)
    assert [(r["lines"], r["end"]) for r in records(out)] == [(1, 6), (1, 12)]


def test_another_file_in_the_place_of_one_is_begun_anew(model, logs, out):
    append(logs / "a.log", ["the same first line", *lines_of(100, seed=1)])
    follow(model, out, folder=logs, once=True)
    (logs / "a.log").unlink()
    append(logs / "a.log", ["the same first line", *lines_of(300, seed=2)])
    follow(model, out, folder=logs, once=True)
    assert sum(r["lines"] for r in records(out)) == 101 + 301
    assert len(covered(records(out))) == 2


@pytest.mark.parametrize("seed", range(3))
def test_kill_9_loses_and_repeats_no_line_of_files(seed, model, logs, out):
    """Killed at random moments, five times, while two files grow and rotate."""
    rng = random.Random(seed)
    written = 0
    for round_ in range(5):
        process = started(model, logs, "--out", out, "--delay", "0.05")
        before = len(records(out))
        until = time.monotonic() + rng.uniform(0.05, 0.4)
        grown = False
        while time.monotonic() < until or not grown:
            for name in ("a.log", "b.log"):
                count = rng.randrange(1, 3000)
                append(logs / name, lines_of(count, seed=rng.randrange(10**9)))
                written += count
            if rng.random() < 0.3:
                os.rename(logs / "a.log", logs / f"a.log.{round_}{rng.random()}")
            grown = grown or len(records(out)) > before
            time.sleep(0.01)
        process.kill()
        process.communicate()
    follow(model, out, folder=logs, once=True)
    found = records(out)
    assert sum(record["lines"] for record in found) == written
    sizes = sorted(path.stat().st_size for path in logs.iterdir())
    assert sorted(covered(found).values()) == sizes


def test_a_torn_record_is_cut_off_and_a_lost_state_is_found_again(model, logs, out):
    append(logs / "a.log", lines_of(500))
    follow(model, out, folder=logs, once=True)
    whole = out.read_bytes()
    state = out.with_name(out.name + ".state")
    for keep in range(len(whole) - 200, len(whole), 37):
        for kept in (state.read_bytes(), b"", b"{", b"[]", b'{"size":1,"places":0}'):
            out.write_bytes(whole[:keep])
            state.write_bytes(kept)
            follow(model, out, folder=logs, once=True)
            assert sum(r["lines"] for r in records(out)) == 500
            assert len(covered(records(out))) == 1


@pytest.mark.parametrize("seed", range(2))
def test_kill_9_loses_and_repeats_no_line_of_clients(seed, model, out):
    """The server is killed at random moments while two clients send."""
    rng, port = random.Random(seed), free_port()
    sent = {name: lines_of(30_000, seed=i) for i, name in enumerate(("ada", "eve"))}
    threads = [
        threading.Thread(
            target=send_lines,
            args=(("127.0.0.1", port), name, [line.encode() for line in lines]),
        )
        for name, lines in sent.items()
    ]
    arguments = model, "--listen", f"127.0.0.1:{port}", "--out", out, "--delay", "0.05"
    process = started(*arguments)
    for thread in threads:
        thread.start()
    for _ in range(4):
        before = len(records(out))
        wait_for(
            lambda before=before: (
                len(records(out)) > before or not any(t.is_alive() for t in threads)
            )
        )
        time.sleep(rng.uniform(0, 0.05))
        process.kill()
        process.communicate()
        process = started(*arguments)
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    wait_for(lambda: _connects(port))  # from then on it ends in order
    code, _ = ended(process)
    assert code == 0
    assert covered(records(out)) == {"tcp:ada": 30_000, "tcp:eve": 30_000}
    assert sum(r["lines"] for r in records(out)) == 60_000


def test_clients_without_a_name_are_read_until_they_leave(model, out):
    port = free_port()
    process = started(model, "--listen", f"127.0.0.1:{port}", "--out", out)
    wait_for(lambda: _connects(port))
    with socket.create_connection(("127.0.0.1", port)) as plain:
        plain.sendall(b"".join(f"{line}\n".encode() for line in lines_of(95)) + b"half")
    with socket.create_connection(("127.0.0.1", port)) as silent:
        with socket.create_connection(("127.0.0.1", port)) as long:
            long.sendall(b"x" * 1_000_000)
        wait_for(lambda: sum(r["lines"] for r in records(out)) == 96 + 1)
        silent.close()
    code, _ = ended(process, signal.SIGINT)
    assert code == 0


def _connects(port):
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def test_hostile_clients_do_not_end_it(model, out):
    port = free_port()
    process = started(model, "--listen", f"127.0.0.1:{port}", "--out", out)
    wait_for(lambda: _connects(port))
    many = [socket.create_connection(("127.0.0.1", port)) for _ in range(400)]
    for hello in (b"sillar lines 1 " + b"n" * 9999, b"sillar lines 1 \n", b"\0" * 99):
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(hello)
    for client in many:
        client.close()
    send_lines(("127.0.0.1", port), "ada", [b"\xff\xfe", b"", b"a" * 300_000, b"\0"])
    code, said = ended(process)
    assert code == 0, said
    assert covered(records(out))["tcp:ada"] == 4


def test_memory_stays_flat_and_delay_small(model, logs, out):
    append(logs / "a.log", lines_of(20_000))
    text = (logs / "a.log").read_text()
    held, slow = [], []

    def note(_, counts):
        slow.append(counts.delay)
        if counts.windows % 500 < 20:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            held.append(pages * os.sysconf("SC_PAGE_SIZE"))

    for _ in range(15):
        with (logs / "a.log").open("a") as file:
            file.write(text)
    counts = follow(model, out, folder=logs, once=True, on_batch=note)
    assert counts.lines == 16 * 20_000
    assert held[-1] - held[len(held) // 4] < 8 * 2**20
    assert np.median(slow) < 0.05


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"folder": None}, "name a folder, an address to listen on, or both"),
        ({"folder": "nowhere"}, "is no directory"),
        ({"listen": ("203.0.113.1", 9)}, "cannot listen on 203.0.113.1:9"),
    ],
)
def test_mistakes_are_named(change, message, model, logs, out):
    with pytest.raises(ConfigError, match=message):
        Follower(model, out, **({"folder": logs} | change))
    Follower(model, out, folder=logs).close()  # nothing is left locked


def test_two_followers_do_not_share_an_output(model, logs, out):
    first = Follower(model, out, folder=logs)
    with pytest.raises(ConfigError, match="another process writes to"):
        Follower(model, out, folder=logs)
    first.close()


@pytest.mark.parametrize("text", ["my only copy\n", "no end", '{"a": 1}\n', "[]\n"])
def test_an_output_that_holds_something_else_is_refused(text, model, logs, out):
    for whole in (text, text * 20_000):
        out.write_text(whole)
        with pytest.raises(DataError, match="has a line that is no score"):
            Follower(model, out, folder=logs)
        assert out.read_text() == whole


def test_names_that_look_like_something_else(model, logs, out):
    names = ("tcp:ada", "a#b-2.log", "é\udcff.log", "./x".replace("/", ";"))
    for i, name in enumerate(names):
        append(logs / name, lines_of(50, seed=i))
    follow(model, out, folder=logs, once=True)
    for i, name in enumerate(names):
        append(logs / name, lines_of(30, seed=10 + i))
    follow(model, out, folder=logs, once=True)
    found = records(out)
    assert sum(record["lines"] for record in found) == 4 * 80
    assert sorted(covered(found).values()) == sorted(
        (logs / name).stat().st_size for name in names
    )


def test_files_that_begin_alike_are_told_apart_without_the_state(model, logs, out):
    for i in range(3):
        append(logs / f"{i}.log", ["# the same header", *lines_of(40 + i, seed=i)])
    follow(model, out, folder=logs, once=True)
    out.with_name(out.name + ".state").unlink()
    for i in range(3):
        append(logs / f"{i}.log", lines_of(20, seed=10 + i))
        os.rename(logs / f"{i}.log", logs / f"{2 - i}.log.1")
    follow(model, out, folder=logs, once=True)
    sizes = sorted(path.stat().st_size for path in logs.iterdir())
    assert sorted(covered(records(out)).values()) == sizes
    assert sum(r["lines"] for r in records(out)) == 41 + 42 + 43 + 60


def test_the_copy_of_the_positions_keeps_the_last_scored(monkeypatch, tmp_path):
    from sillar.streams import journal

    monkeypatch.setattr(journal, "KEPT", 2)
    book = journal.Journal(tmp_path / "out")
    for source in ("old", "b", "c", "old"):
        book.write([{"source": source, "end": len(book.places) + 1}], 0.0)
    book.close()
    again = journal.Journal(tmp_path / "out")
    assert again.places == {
        "c": {"end": 3, "mark": None},
        "old": {"end": 4, "mark": None},
    }
    again.close()


def test_a_client_that_comes_again_is_not_counted_twice(model, out):
    """What it sent before and was not scored then is scored while it is away."""
    port, lines = free_port(), [line.encode() + b"\n" for line in lines_of(50)]
    hello = b"sillar lines 1 ada\n"
    options = "--listen", f"127.0.0.1:{port}", "--out", out, "--delay", "0.5"
    process = started(model, *options)
    wait_for(lambda: _connects(port))
    with socket.create_connection(("127.0.0.1", port)) as first:
        first.sendall(hello)
        assert first.recv(99) == b"next 0\n"
        first.sendall(b"".join(lines[:30]))
        assert first.recv(99) == b"next 20\n"
    with socket.create_connection(("127.0.0.1", port)) as second:
        second.sendall(hello)
        assert second.recv(99) == b"next 20\n"
        assert second.recv(99) == b"next 30\n"  # after half a second
        second.sendall(b"".join(lines[20:]))
        assert second.recv(99) == b"next 50\n"
    with socket.create_connection(("127.0.0.1", port)) as hasty:
        hasty.sendall(hello + lines[0])
        assert hasty.recv(99) == b""
    code, _ = ended(process)
    assert code == 0
    assert covered(records(out)) == {"tcp:ada": 50}
    assert sum(r["lines"] for r in records(out)) == 50


def test_a_model_without_windows_is_refused(tmp_path, logs, out):
    path = tmp_path / "plain.safetensors"
    sl.save(nn.Sequential(nn.Dense(2, 1)).init(sl.Rng(0)), path)
    with pytest.raises(ConfigError, match="saved with a LogWindows encoder"):
        Follower(path, out, folder=logs)


@pytest.mark.parametrize("listen", ["9000", ":9000", "a:b", "127.0.0.1:99999", ""])
def test_an_address_is_a_host_and_a_port(listen):
    from sillar.cli.following import address

    with pytest.raises(ConfigError, match="--listen must be HOST:PORT"):
        address(listen)


def test_a_client_that_nobody_answers_says_so():
    with pytest.raises(DataError, match="no answer from"):
        send_lines(("127.0.0.1", free_port()), "ada", [b"a"], patience=0.3)
    with pytest.raises(DataError, match="a line with a line end in it"):
        send_lines(("127.0.0.1", 1), "ada", [b"a\nb"])
