"""Live logs: lines as they are written, scored window by window, none lost or twice."""

from sillar.streams.client import send_lines
from sillar.streams.follow import Follower, follow
from sillar.streams.parser import Parser

__all__ = ["Follower", "Parser", "follow", "send_lines"]
