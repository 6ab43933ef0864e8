"""The command line as its users have it: real processes, and their exit codes."""

import json
import os
import subprocess
import sys

DIGITS = ("digits", "--epochs", 3, "--set", "data.test=0.75")
QUIET = {"COLUMNS": "80", "PYTHONWARNINGS": "error", "OPENBLAS_NUM_THREADS": "1"}


def environment(**changes):
    kept = {k: v for k, v in os.environ.items() if k not in ("FORCE_COLOR", "NO_COLOR")}
    return {**kept, **QUIET, **changes}


def command(*arguments):
    return [sys.executable, "-m", "sillar", *map(str, arguments)]


def sillar(*arguments, code=0, **options):
    """Run one command to its end and return it; its exit code must be `code`."""
    done = subprocess.run(
        command(*arguments),
        capture_output=True,
        text=True,
        timeout=120,
        env=environment(**options.pop("env", {})),
        **options,
    )
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    if code == 2:
        assert 1 <= done.stderr.count("\n") <= 2, done.stderr
    return done


def only_object(text):
    """Return the one JSON object on standard output; bare NaN and Infinity fail."""
    assert text.count("\n") == 1

    def refuse(token):
        raise AssertionError(f"bare {token} in JSON")

    return json.loads(text, parse_constant=refuse)


def as_json(*arguments, **options):
    return only_object(sillar(*arguments, "--json", **options).stdout)


def recipe(*data, target='target = "kind"', outputs=2, loss="CrossEntropy", more=""):
    """Return the text of a small recipe."""
    return "\n".join(
        [
            "[data]",
            *data,
            target,
            "[model]",
            "layers = [",
            '  { type = "Dense", n_in = 2, n_out = 16 },',
            '  { type = "Tanh" },',
            f'  {{ type = "Dense", n_in = 16, n_out = {outputs} }},',
            "]",
            "[loss]",
            f'type = "{loss}"',
            "[optimizer]",
            'type = "Adam"',
            "lr = 0.1",
            "[training]",
            "epochs = 5",
            more,
            "",
        ]
    )
