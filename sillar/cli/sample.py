"""`sillar sample`: text drawn from a character model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from sillar import train
from sillar.cli import show
from sillar.cli.record import model_of
from sillar.data.text import END, encode
from sillar.errors import ConfigError, DataError, FormatError
from sillar.nn import Layer
from sillar.train.scoring import read_notes

LENGTH = {"windows": 500, "lines": 100}  # unless the user names one


@dataclass(frozen=True)
class Writer:
    """A trained character model, and what its file says of its text."""

    path: Path
    model: Layer
    classes: list[str]
    context: int
    kind: str  # "windows" or "lines", which end where the model ends them

    def start(self, prompt: str) -> list[int]:
        """Return the numbers that drawing starts from, a line break at the least."""
        if self.kind == "lines" and END in prompt:
            raise ConfigError("sample: --prompt: the model writes one line: give one")
        try:
            numbers = [int(n) for n in encode(prompt, self.classes)]
        except DataError as error:
            raise DataError(f"sample: --prompt: {error}") from None
        if self.kind == "lines":
            return [self.classes.index(END), *numbers]
        first = self.classes.index(END) if END in self.classes else 0
        return numbers or [first]

    def write(
        self, prompt: str, length: int | None, options: dict[str, Any]
    ) -> Iterator[str]:
        """Return the characters that are drawn to follow the prompt, one by one."""
        drawn = train.sample(
            self.model,
            self.start(prompt),
            length=LENGTH[self.kind] if length is None else length,
            context=self.context,
            **options,
        )
        letters = (self.classes[number] for number in drawn)
        return letters if self.kind == "windows" else takewhile(END.__ne__, letters)


def written(
    writer: Writer,
    prompt: str,
    length: int | None,
    count: int,
    options: dict[str, Any],
    *,
    aloud: bool,
) -> list[str]:
    """Return samples that begin with the prompt; aloud, print them as they are drawn.

    The seed of sample i is i more than that of the options.
    """
    samples = []
    for i in range(count):
        drawn = writer.write(prompt, length, options | {"seed": options["seed"] + i})
        text = prompt
        if aloud:
            _print(prompt)
        for character in drawn:
            text += character
            if aloud:
                _print(character)
        if aloud:
            print()
        samples.append(text)
    return samples


def _print(text: str) -> None:
    """Print at once, with nothing in it that could act on a terminal."""
    lines = (show.clean(line) for line in text.split(END))
    print(END.join(lines), end="", flush=True)


def open_writer(target: Path) -> Writer:
    """Return the character model of a run, or in a file of its own."""
    path = model_of(target) if target.is_dir() else target
    notes = read_notes(path)
    kind, classes, shape = (notes.get(name) for name in ("text", "classes", "input"))
    if kind is None:
        raise ConfigError(
            f"sample: {str(path)!r} is no character model: train one, as in"
            " sillar train text --data FILE"
        )
    if not isinstance(kind, str) or kind not in LENGTH:
        raise FormatError(f"{str(path)!r}: the note text is unknown: {kind!r:.60}")
    if (
        not isinstance(classes, list)
        or not all(isinstance(c, str) and len(c) == 1 for c in classes)
        or (kind == "lines" and END not in classes)
        or len(set(classes)) != len(classes)
        or shape is None
        or len(shape) != 1
    ):
        raise FormatError(
            f"{str(path)!r}: expected different characters as classes, and one size as"
            f" input in the notes, got {classes!r:.60} and {shape!r:.60}"
        )
    writer = Writer(path, train.load(path), classes, shape[0], kind)
    outputs = train.predict(writer.model, [writer.start("")])
    if outputs.shape[-1] != len(classes):
        raise FormatError(
            f"{str(path)!r}: the model tells {outputs.shape[-1]} characters apart, its"
            f" notes name {len(classes)}"
        )
    return writer
