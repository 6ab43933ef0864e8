"""Transformer blocks, and a language model made of them."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

from sillar.core.ops.linalg import swap
from sillar.core.rng import Rng
from sillar.core.tensor import Tensor
from sillar.errors import ConfigError, ShapeError
from sillar.nn.activations import GELU
from sillar.nn.attention import Attention
from sillar.nn.initializers import small_normal
from sillar.nn.layer import Layer
from sillar.nn.layers import (
    Dense,
    Embedding,
    Sequential,
    at_least,
    dropout,
    probability,
)
from sillar.nn.normalization import LayerNorm
from sillar.nn.positions import LearnedPositions, check_tokens

BLOCKS = 1000


class TransformerBlock(Layer):
    """x + attention(norm(x)), then x + mlp(norm(x)): the pre-norm form.

    x (batch, tokens, width), and a mask as `Attention` takes it (Xiong et al. 2020,
    fig. 1b). The mlp is Dense, GELU, Dense with `hidden` in between, 4 * width unless
    given. In training attention weights and what each branch adds are dropped with
    probability `dropout`.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        causal: bool = False,
        hidden: int | None = None,
        dropout: float = 0.0,
        bias: bool = True,
        rotary: bool = False,
    ) -> None:
        self.width, self.heads, self.causal = width, heads, causal
        self.hidden = hidden
        self.dropout = probability("TransformerBlock", "dropout", dropout)
        self.bias, self.rotary = bias, rotary
        inner = 4 * width
        if hidden is not None:
            inner = at_least("TransformerBlock", "hidden", hidden, 1)
        self.attention_norm = LayerNorm(width)
        self.attention = Attention(
            width, heads, causal=causal, bias=bias, dropout=dropout, rotary=rotary
        )
        self.mlp_norm = LayerNorm(width)
        self.mlp = Sequential(
            Dense(width, inner, bias=bias), GELU(), Dense(inner, width, bias=bias)
        )

    def forward(self, x: Tensor, *mask: Tensor) -> Tensor:
        check_tokens(self, x, self.width)
        attended = self.attention(self.attention_norm(x), *mask)
        x = x + dropout(attended, self.dropout)
        return x + dropout(self.mlp(self.mlp_norm(x)), self.dropout)


class GPT(Layer):
    """A causal language model: indices (batch, n) -> logits (batch, n, vocabulary).

    Embedding, learned positions, blocks, norm, head (Radford et al. 2019); n is at most
    `context`. Logits at place t speak of the token at t + 1 and depend on the first
    t + 1 tokens alone. A `tied` head is the embedding transposed. Weights start at
    N(0, 0.02^2), those that end a branch divided by sqrt(2 * blocks) (there, 2.3).
    """

    def __init__(
        self,
        vocabulary: int,
        width: int,
        *,
        blocks: int,
        heads: int,
        context: int,
        dropout: float = 0.0,
        bias: bool = True,
        tied: bool = True,
    ) -> None:
        self.vocabulary = at_least("GPT", "vocabulary", vocabulary, 1)
        self.width, self.heads, self.bias, self.tied = width, heads, bias, tied
        self.blocks = at_least("GPT", "blocks", blocks, 1)
        if blocks > BLOCKS:  # a description in a file may ask for any number
            raise ConfigError(f"GPT: blocks must be at most {BLOCKS}, got {blocks}")
        self.context = at_least("GPT", "context", context, 1)
        self.dropout = probability("GPT", "dropout", dropout)
        self.embedding = Embedding(vocabulary, width, initializer=small_normal)
        self.positions = LearnedPositions(context, width)
        options: dict[str, Any] = {"causal": True, "dropout": dropout, "bias": bias}
        self.layers = [TransformerBlock(width, heads, **options) for _ in range(blocks)]
        self.norm = LayerNorm(width)
        start: dict[str, Any] = {"bias": False, "initializer": small_normal}
        self.head = None if tied else Dense(width, vocabulary, **start)
        for block in self.layers:
            _start_small(block, 2 * blocks)

    def forward(self, indices: Tensor) -> Tensor:
        if indices.ndim != 2 or indices.shape[1] > self.context:
            raise ShapeError(
                f"{self!r}: expected indices (batch, n), n at most {self.context}, got"
                f" {indices.shape}: cut longer texts into pieces of that length"
            )
        x = dropout(self.positions(self.embedding(indices)), self.dropout)
        for block in self.layers:
            x = block(x)
        x = self.norm(x)
        return x @ swap(self.embedding.weight) if self.head is None else self.head(x)


def _start_small(block: TransformerBlock, branches: int) -> None:
    """Set how a block of a GPT with so many branches is drawn."""
    for p in block.parameters().values():
        if p.ndim == 2:
            p.init = small_normal
    for end in (block.attention.out, block.mlp[2]):
        end.weight.init = partial(_end_of_branch, branches=branches)


def _end_of_branch(rng: Rng, shape: Any, dtype: Any, *, branches: int) -> Any:
    """Draw so that the sum of all branches stays in scale."""
    draws = small_normal(rng, shape, dtype)
    draws *= 1 / math.sqrt(branches)
    return draws
