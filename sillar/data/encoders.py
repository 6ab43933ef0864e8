"""The closed list of encoders that a model's file may name."""

from __future__ import annotations

from typing import Any

from sillar.data.encoder import Encoder
from sillar.data.log_tokenizer import LogTokenizer
from sillar.data.log_windows import LogWindows
from sillar.data.table_transform import TableTransform
from sillar.data.tokenizers import CharTokenizer, WordTokenizer
from sillar.errors import FormatError

ENCODERS: dict[str, type[Encoder]] = {
    kind.__name__: kind
    for kind in (
        *(CharTokenizer, LogTokenizer, LogWindows, TableTransform, WordTokenizer),
    )
}


def build_encoder(described: Any) -> Encoder:
    """Return the encoder that plain data describes, one of the closed list."""
    name = described.get("type") if isinstance(described, dict) else None
    kind = ENCODERS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise FormatError(
            f"encoder: unknown type {name!r:.40}; known are {', '.join(ENCODERS)}"
        )
    return kind.build(described)
