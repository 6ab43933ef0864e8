"""What all commands share: help, version, exit codes, and streams that close."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time

import pytest
from command_line import DIGITS, command, environment, only_object, sillar

import sillar as sl
from sillar.cli import main

COMMANDS = ("train", "evaluate", "predict", "inspect", "doctor")


def test_help_lists_the_commands_in_80_columns():
    for arguments in (["--help"], []):
        out = sillar(*arguments).stdout
        for name in COMMANDS:
            assert f" {name} " in out
        assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_json_and_debug(name, in_process):
    out = in_process(name, "--help")
    assert "--json" in out
    assert "--debug" in out


def test_the_version_is_the_package_s():
    assert sillar("--version").stdout == f"sillar {sl.__version__}\n"


def test_the_script_and_the_module_are_the_same():
    script = os.path.join(os.path.dirname(sys.executable), "sillar")
    done = subprocess.run([script, "--version"], capture_output=True, text=True)
    assert done.stdout == sillar("--version").stdout


def test_help_loads_no_more_than_it_needs():
    code = (
        "import sys; from sillar.cli import main; main(['--help']);"
        " print([m for m in ('sillar.cli.train', 'threadpoolctl', 'rich.progress')"
        " if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment()
    )
    assert done.stderr == "[]\n"


MISTAKES = (
    ["unknown"],
    ["--unknown"],
    ["train", "digits", "--unknown"],
    ["train", "digits", "--epochs"],
    ["train", "digits", "--epochs", "many"],
    ["train", "digits", "mnist"],
    ["evaluate"],
    ["predict", "run"],
    ["inspect"],
    ["doctor", "now"],
)


@pytest.mark.parametrize("arguments", MISTAKES, ids=" ".join)
def test_a_mistake_is_one_line_and_exit_code_2(arguments, in_process):
    assert "--help" in in_process(*arguments, code=2)


def test_debug_shows_the_traceback_and_keeps_the_exit_code():
    done = subprocess.run(
        command("inspect", "none", "--debug"), capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")


def test_what_we_did_not_foresee_is_one_line_and_exit_code_1(monkeypatch, in_process):
    def broken():
        raise ZeroDivisionError("one\ntwo")

    monkeypatch.setattr("sillar.cli.doctor.examine", broken)
    message = in_process("doctor", code=1)
    assert message.count("\n") == 1
    assert "unexpected ZeroDivisionError: one two; run it again with --debug" in message


def test_too_little_memory_is_a_mistake_with_advice(monkeypatch, in_process):
    def broken():
        raise MemoryError("unable to allocate 8 TiB")

    monkeypatch.setattr("sillar.cli.doctor.examine", broken)
    assert "not enough memory: unable" in in_process("doctor", code=2)


@pytest.mark.parametrize("arguments", [["doctor"], ["doctor", "--json"], ["--help"]])
def test_a_broken_pipe_is_quiet(arguments):
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.Popen(
        command(*arguments), stdout=writer, stderr=subprocess.PIPE, env=environment()
    )
    os.close(writer)
    assert process.communicate(timeout=60)[1] == b""
    assert process.returncode == 141


def test_output_that_cannot_be_written_is_named():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command("doctor", "--json"),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
    assert done.returncode == 2
    assert "No space left on device" in done.stderr
    assert done.stderr.count("\n") == 1


def test_closed_streams_are_no_error():
    line = " ".join(command("doctor", "--json"))
    for closed in (">&-", "2>&-", "<&-", "<&- >&- 2>&-"):
        done = subprocess.run(
            f"{line} {closed}", shell=True, env=environment(), capture_output=True
        )
        assert done.returncode == 0
        assert done.stderr == b""
        assert done.stdout.count(b"\n") == (
            ">&- " not in f" {closed} ".replace("2>", "")
        )


def test_progress_never_goes_to_standard_output(two_moons, tmp_path):
    recipe, run = two_moons / "csv.toml", tmp_path / "run"
    line = " ".join(command("train", recipe, "--json", "--out", run))
    done = subprocess.run(
        f"{line} 2>&-", shell=True, env=environment(), capture_output=True, text=True
    )
    assert only_object(done.stdout)["run"] == str(run)


def test_a_terminal_without_control_codes_gets_lines(two_moons, tmp_path):
    arguments = ("train", two_moons / "csv.toml", "--out", tmp_path / "run")
    raw, shown, code = on_a_terminal(*arguments, TERM="dumb")
    assert code == 0
    assert "\x1b" not in raw
    assert "epoch 5/5  loss" in shown


def test_ctrl_c_before_anything_has_begun_is_quiet(monkeypatch, capsys):
    def interrupted(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("sillar.cli.app.run", interrupted)
    assert main(["doctor"]) == 130
    assert capsys.readouterr() == ("", "")


def on_a_terminal(*arguments, interrupt=b"", **changes):
    """Run a command on a terminal of 80 columns; return what it showed and its code.

    Ctrl-C comes once the terminal has shown `interrupt`.
    """
    kept = {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "40", **changes}
    master, slave = pty.openpty()
    process = subprocess.Popen(
        command(*arguments),
        stdout=slave,
        stderr=slave,
        stdin=slave,
        env=environment(**kept),
    )
    os.close(slave)
    shown, end = b"", time.monotonic() + 120
    while time.monotonic() < end:
        if select.select([master], [], [], 0.1)[0]:
            try:
                shown += os.read(master, 65536)
            except OSError:  # the other end was closed
                break
            if interrupt and interrupt in shown:
                process.send_signal(signal.SIGINT)
                interrupt = b""
    os.close(master)
    text = shown.decode()
    return text, re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text), process.wait(timeout=60)


def test_a_terminal_shows_a_bar_and_a_row_for_each_epoch(tmp_path):
    raw, shown, code = on_a_terminal(
        "train", "digits", "--epochs", 3, "--out", tmp_path / "run"
    )
    assert code == 0
    assert "\x1b[" in raw
    lines = [line.strip() for line in re.split(r"[\r\n]+", shown) if line.strip()]
    assert "epoch              loss      accuracy      time" in lines
    for epoch in (1, 2, 3):
        assert any(line.startswith(f"{epoch}/3 ") for line in lines)
        bars = [line for line in lines if line.startswith(f"epoch {epoch}/3 ")]
        assert all("━" in bar for bar in bars)
        assert max(map(len, bars)) <= 80
    bar = r"epoch \d/3 ━.* +\d+\.\d steps/s  \S+( s)? left  loss \d\.\d+  accuracy \d\."
    assert any(re.match(bar, line) for line in lines)
    assert any(line.startswith("ROC-AUC") for line in lines)
    assert lines[-1].startswith("run ")


def test_ctrl_c_on_a_terminal_leaves_it_as_it_was(tmp_path):
    run = tmp_path / "run"
    raw, shown, code = on_a_terminal(
        "train", *DIGITS, "--epochs", 200, "--out", run, interrupt=b"1/200 "
    )
    assert code == 130
    assert "interrupted in epoch" in shown
    assert "go on with: sillar train --resume" in shown
    assert "Traceback" not in shown
    assert raw.rfind("\x1b[?25h") > raw.rfind("\x1b[?25l")  # the cursor is back
