"""The command line: `sillar train`, and commands that use or look into what it made."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout

from sillar.errors import SillarError

INTERRUPTED = 130  # 128 + SIGINT, as shells have it
BROKEN_PIPE = 141  # 128 + SIGPIPE


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 1, 2, 130 or 141.

    2 is a mistake that the message explains, 1 one that we did not foresee.
    """
    arguments = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    with (
        open(os.devnull, "w") as nowhere,  # for streams that the caller has closed:
        redirect_stdout(sys.stdout or nowhere),  # print would take one for the other
        redirect_stderr(sys.stderr or nowhere),
    ):
        try:
            return _run(arguments)
        except KeyboardInterrupt:
            return INTERRUPTED
        except (BrokenPipeError, SystemExit):  # typer and rich make one of the other
            _drop_output()
            return BROKEN_PIPE


def _run(arguments: list[str]) -> int:
    from sillar.cli import show
    from sillar.cli.app import run

    try:
        code = run(arguments)
        sys.stdout.flush()
        return code
    except (BrokenPipeError, KeyboardInterrupt):
        raise
    except Exception as error:
        if _is_told_elsewhere():
            return _explained(error)[0]
        if "--debug" in arguments:
            traceback.print_exc()
        if isinstance(error, OSError) and error.filename is None:
            _drop_output()  # what is left of it cannot be written either
        code, message = _explained(error)
        show.fail(message)
        return code


def _is_told_elsewhere() -> bool:
    """Say whether `mpiexec` started several of us, of which the first one speaks."""
    from sillar.distributed.mpi import launched

    return bool(launched())


def _explained(error: Exception) -> tuple[int, str]:
    """Return the exit code of an error, and what to say."""
    if isinstance(error, SillarError):
        return 2, str(error)
    if isinstance(error, OSError):
        name = f"{error.filename!r}: " if error.filename is not None else ""
        reason = error.strerror or error
        return 2, f"{name}{reason}; check path, permissions and free space"
    if isinstance(error, MemoryError):
        return 2, f"not enough memory: {error}; make the model or the batches smaller"
    if isinstance(error, RecursionError):
        return 2, "the recipe or file is nested too deeply; write it flatter"
    return 1, (
        f"unexpected {type(error).__name__}: {error!s:.300}; run it again with --debug"
        " to see where, and report it"
    )


def _drop_output() -> None:
    """Let nothing more go to standard output, which nobody can read."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
