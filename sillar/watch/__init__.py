"""Tools to see inside a computation: listeners at the waist, never parts of a layer."""

from sillar.core.listen import Listener
from sillar.watch.diagnose import Diagnosis, diagnose
from sillar.watch.draw import Drawing, draw
from sillar.watch.explain import explain_step
from sillar.watch.log import diff_logs, log_nodes
from sillar.watch.nonfinite import find_nonfinite
from sillar.watch.profile import profile
from sillar.watch.replay import replay

__all__ = [
    "Diagnosis",
    "Drawing",
    "Listener",
    "diagnose",
    "diff_logs",
    "draw",
    "explain_step",
    "find_nonfinite",
    "log_nodes",
    "profile",
    "replay",
]
