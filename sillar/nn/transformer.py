"""Transformer blocks, and a language model made of them."""

from __future__ import annotations

from sillar.core.tensor import Tensor
from sillar.nn.activations import GELU
from sillar.nn.attention import Attention
from sillar.nn.layer import Layer
from sillar.nn.layers import Dense, Sequential, at_least, dropout, probability
from sillar.nn.normalization import LayerNorm
from sillar.nn.positions import check_tokens


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
