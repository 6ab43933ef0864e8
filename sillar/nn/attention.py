"""Multi-head attention."""

from __future__ import annotations

from typing import Any

from sillar.core.attention import (
    attention,
    attention_weights,
    join_heads,
    split_heads,
    visible,
)
from sillar.core.dtypes import is_boolean
from sillar.core.ops import reshape
from sillar.core.parameter import Initializer
from sillar.core.tensor import Tensor
from sillar.errors import ConfigError, DtypeError, ShapeError
from sillar.nn.initializers import xavier_uniform
from sillar.nn.layer import Layer, is_training
from sillar.nn.layers import Dense, at_least, dropout, probability
from sillar.nn.positions import check_tokens, even, rotate

MASK_AXES = {  # by the number of axes of a mask: its axes, and its shape among four
    2: ("(batch, keys)", lambda s: (s[0], 1, 1, s[1])),
    3: ("(batch, queries, keys)", lambda s: (s[0], 1, s[1], s[2])),
    4: ("(batch, heads, queries, keys)", lambda s: s),
}


class Attention(Layer):
    """Each token's mean of what others hold, by likeness (Vaswani et al. 2017, 3.2.2).

    `layer(x)` attends within x (batch, tokens, width); `layer(x, context)` from x to
    context (batch, keys, kv_width or width). Either may be followed by a mask, a tensor
    of truths: True = may be seen. Its axes are (batch, keys), (batch, queries, keys) or
    (batch, heads, queries, keys). `causal`: token t sees the first t + 1 keys. A query
    that sees nothing gets zeros, before the last projection. In training each weight
    is dropped with probability `dropout`. `rotary` turns queries and keys by their
    places, which count from 0 in x and in the context.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        causal: bool = False,
        bias: bool = True,
        dropout: float = 0.0,
        kv_width: int | None = None,
        rotary: bool = False,
        initializer: Initializer = xavier_uniform,
    ) -> None:
        self.width = at_least("Attention", "width", width, 1)
        self.heads = at_least("Attention", "heads", heads, 1)
        if width % heads:
            raise ConfigError(
                f"Attention: heads must divide width, got {heads} and {width}"
            )
        if rotary:
            even("Attention", "width / heads, for rotary positions,", width // heads)
        self.causal, self.bias, self.rotary = causal, bias, rotary
        self.dropout = probability("Attention", "dropout", dropout)
        self.kv_width, self.initializer = kv_width, initializer
        options: dict[str, Any] = {"bias": bias, "initializer": initializer}
        if kv_width is None:
            self.qkv = Dense(width, 3 * width, **options)
        else:
            at_least("Attention", "kv_width", kv_width, 1)
            self.query = Dense(width, width, **options)
            self.key_value = Dense(kv_width, 2 * width, **options)
        self.out = Dense(width, width, **options)

    def forward(self, x: Tensor, *more: Tensor) -> Tensor:
        check_tokens(self, x, self.width)
        context, mask = self._context_and_mask(x, more)
        drops = self.dropout > 0 and is_training()
        if context is x and self.kv_width is None and not (self.rotary or drops):
            options: dict[str, Any] = {"heads": self.heads, "causal": self.causal}
            return self.out(attention(self.qkv(x), mask, **options))
        q, k, v = (split_heads(part, self.heads) for part in self._parts(x, context))
        if self.rotary:
            q, k = rotate(q), rotate(k)
        weights = attention_weights(q, k, visible(q, k, mask, self.causal))
        return self.out(join_heads(dropout(weights, self.dropout) @ v))

    def _parts(self, x: Tensor, context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the queries of x, the keys and the values of the context."""
        width = self.width
        if self.kv_width is not None:
            both = self.key_value(context)
            return self.query(x), both[..., :width], both[..., width:]
        if context is x:
            all_three = self.qkv(x)
            q, both = all_three[..., :width], all_three[..., width:]
        else:
            weight, bias = self.qkv.weight, self.qkv.bias
            q, both = x @ weight[:, :width], context @ weight[:, width:]
            if bias is not None:
                q, both = q + bias[:width], both + bias[width:]
        return q, both[..., :width], both[..., width:]

    def _context_and_mask(
        self, x: Tensor, more: tuple[Tensor, ...]
    ) -> tuple[Tensor, Any]:
        """Return what x attends to, and the mask of four axes, True without one."""
        mask: Any = True
        if more and is_boolean(more[-1].data):
            *more, mask = more
        if len(more) > 1:
            raise DtypeError(
                f"{self!r}: expected (x) or (x, context), then at most one mask of"
                f" truths, got {more[-1].dtype} {more[-1].shape} after them: make the"
                " mask boolean, True where a key may be seen"
            )
        context = more[0] if more else x
        what = "a mask of truths or a context"
        check_tokens(self, context, self.kv_width or self.width, what)
        if context.shape[0] != x.shape[0]:
            raise ShapeError(
                f"{self!r}: expected as many contexts as inputs, got"
                f" {context.shape} for {x.shape}"
            )
        if mask is not True:
            mask = self._four_axes(mask, (x.shape[0], x.shape[1], context.shape[1]))
        return context, mask

    def _four_axes(self, mask: Tensor, sizes: tuple[int, int, int]) -> Tensor:
        """Return a mask as (batch, heads, queries, keys), where 1 stands for all."""
        batch, n, m = sizes
        full = (batch, self.heads, n, m)
        shape = MASK_AXES[mask.ndim][1](mask.shape) if mask.ndim in MASK_AXES else ()
        pairs = zip(shape, full, strict=False)
        if not shape or not all(size in (1, whole) for size, whole in pairs):
            axes = ", ".join(text for text, _ in MASK_AXES.values())
            raise ShapeError(
                f"{self!r}: expected a mask {axes}, of sizes {full} or 1,"
                f" got {mask.shape}"
            )
        return reshape(mask, shape=shape)
