"""Run `sillar` and kill it, with SIGKILL, at the n-th call of one function.

python killing.py MODULE FUNCTION N ARGUMENT...
"""

import importlib
import os
import signal
import sys

from sillar.cli import main

module_name, function_name, n, *arguments = sys.argv[1:]
module = importlib.import_module(module_name)
function = getattr(module, function_name)
calls = 0


def killing(*args, **kwargs):
    global calls
    calls += 1
    if calls == int(n):
        os.kill(os.getpid(), signal.SIGKILL)
    return function(*args, **kwargs)


setattr(module, function_name, killing)
raise SystemExit(main(arguments))
