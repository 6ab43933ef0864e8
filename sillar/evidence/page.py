"""A report's page: sections of text, tables and pictures in one file of HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sillar
from sillar.errors import DependencyError
from sillar.files import replacing

TEMPLATE = Path(__file__).with_name("report.html")


@dataclass
class Section:
    """A heading, and what stands below it in order."""

    title: str
    blocks: list[dict[str, Any]] = field(default_factory=list)

    @property
    def id(self) -> str:
        """Return the anchor that links go to."""
        return self.title.lower().replace(" ", "-")

    def text(self, text: str, *, warn: bool = False) -> None:
        """Add a paragraph."""
        self.blocks.append({"kind": "text", "text": text, "warn": warn})

    def code(self, text: str) -> None:
        """Add lines to be typed."""
        self.blocks.append({"kind": "code", "text": text})

    def table(self, rows: Sequence[Mapping[str, Any]], caption: str = "") -> None:
        """Add a table of rows with the same keys; numbers stand to the right."""
        if rows:
            columns = [(name, _is_number(value)) for name, value in rows[0].items()]
            cells = [[_cell(value) for value in row.values()] for row in rows]
            block = {"kind": "table", "columns": columns, "rows": cells}
            self.blocks.append(block | {"caption": caption})

    def pictures(self, *pictures: tuple[str, str]) -> None:
        """Add pictures, (SVG, caption) each, side by side where there is room."""
        shown = [{"svg": svg, "caption": caption} for svg, caption in pictures]
        self.blocks.append({"kind": "pictures", "pictures": shown})


@dataclass
class Page:
    """A title, the numbers to see first, and sections."""

    title: str
    subtitle: str
    headline: list[dict[str, str]] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)

    def section(self, title: str) -> Section:
        """Add a section and return it."""
        made = Section(title)
        self.sections.append(made)
        return made

    def save(self, path: Path) -> None:
        """Write the page, whole or not at all; all text in it is escaped."""
        try:
            from jinja2 import Environment, StrictUndefined
        except ImportError:
            raise DependencyError(
                "report: pages need Jinja2: pip install 'sillar[report]'"
            ) from None
        environment = Environment(
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
        html = template.render(
            title=self.title,
            subtitle=self.subtitle,
            headline=self.headline,
            sections=[s for s in self.sections if s.blocks],
            version=sillar.__version__,
        )
        with replacing(str(path)) as file:
            file.write(html.encode())


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) < 1000 else f"{value:,.1f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return value if isinstance(value, Mapping) else str(value)
