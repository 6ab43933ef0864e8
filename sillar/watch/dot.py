"""DOT text: labels that no name can break, and colours on a logarithmic scale."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence

FONT = "Helvetica,Arial,sans-serif"
HEAD = f"""digraph sillar {{
  graph [fontname="{FONT}", fontsize=13, labelloc=t, ranksep=0.35, nodesep=0.3]
  node [fontname="{FONT}", fontsize=12, shape=box, style="rounded,filled",
    color="#8a8f98", fillcolor="#f4f4f2", margin="0.16,0.07", height=0.35]
  edge [fontname="{FONT}", fontsize=10, color="#6b7280", fontcolor="#374151",
    arrowsize=0.7]
"""
FRAME = 'style="rounded"; color="#9aa3b2"; margin=12; labeljust=l; fontsize=12'
PALE, MIDDLE, DARK = (253, 232, 160), (243, 146, 55), (150, 12, 40)
NOTHING, BROKEN = "#d4d7dc", "#d61fd6"  # a gradient of 0, and one that is no number
DECADES = 6  # of norms that have colours of their own
LONGEST = 60  # characters of a name


def text(value: object) -> str:
    """Return a name as DOT's HTML labels show it, cut if it is long."""
    name = str(value)
    if len(name) > LONGEST:
        name = f"{name[: LONGEST - 20]}…{name[-18:]}"
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)
    return html.escape(shown).replace("\\", "&#92;&#92;")  # \N means the node


def lines(first: str, *others: str) -> str:
    """Return a label: the first line bold, the others small."""
    small = [
        f'<FONT POINT-SIZE="10">{text(line)}</FONT>' for line in others if line != ""
    ]
    return "<" + "<BR/>".join([f"<B>{text(first)}</B>", *small]) + ">"


def attributes(given: Mapping[str, object]) -> str:
    """Return [name=value, ...]; a label comes as `lines` made it."""
    parts = [
        f"{name}={value}" if name == "label" else f'{name}="{value}"'
        for name, value in given.items()
    ]
    return f"[{', '.join(parts)}]"


def heading(message: str, scale: Scale | None) -> str:
    """Return the label of the whole: lines, and the colours with their values."""
    whole = "<BR/>".join(map(html.escape, message.split("\n")))
    rows = f"<TR><TD>{whole}</TD></TR>"
    if scale is not None:
        cells = "".join(
            f'<TD BGCOLOR="{fill}"><FONT POINT-SIZE="10" COLOR="{ink(fill)}">'
            f"{text(name)}</FONT></TD>"
            for name, fill in scale.legend()
        )
        inner = '<TABLE BORDER="0" CELLSPACING="0" CELLPADDING="5">'
        rows += f"<TR><TD>{inner}<TR>{cells}</TR></TABLE></TD></TR>"
    return f'<<TABLE BORDER="0">{rows}</TABLE>>'


class Scale:
    """Colours for norms up to the largest, over one decade at least, six at most."""

    def __init__(self, norms: Sequence[float]) -> None:
        logs = [math.log10(n) for n in norms if 0 < n < math.inf] or [0.0]
        self.high = max(logs)
        self.low = max(self.high - DECADES, min(self.high - 1, *logs))
        self.norms = norms

    def colour(self, norm: float) -> str:
        """Return the colour of a norm."""
        if not math.isfinite(norm):
            return BROKEN
        if norm == 0:
            return NOTHING
        place = (math.log10(norm) - self.low) / (self.high - self.low)
        place = min(1.0, max(0.0, place)) * 2
        a, b = (PALE, MIDDLE) if place < 1 else (MIDDLE, DARK)
        share = place if place < 1 else place - 1
        mixed = (round(x + (y - x) * share) for x, y in zip(a, b, strict=True))
        return "#" + "".join(f"{part:02x}" for part in mixed)

    def legend(self) -> list[tuple[str, str]]:
        """Return values and their colours, and those of 0 and of what is no number."""
        step = (self.high - self.low) / 4
        marks = [10 ** (self.low + i * step) for i in range(5)]
        found = [(f"{mark:.1e}", self.colour(mark)) for mark in marks]
        if 0 in self.norms:
            found.insert(0, ("0", NOTHING))
        if not all(map(math.isfinite, self.norms)):
            found.append(("not finite", BROKEN))
        return found


def ink(fill: str) -> str:
    """Return the colour of letters that are read well on `fill`."""
    red, green, blue = (int(fill[i : i + 2], 16) for i in (1, 3, 5))
    return "#111827" if 0.3 * red + 0.59 * green + 0.11 * blue > 130 else "#ffffff"
