"""Building blocks shared by encoders: dropout, position embedding, attention and feed-forward blocks."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys_lab.words import RecsysLabError

KeysAndValues = tuple[Tensor, Tensor]
"""(B, H, t, D/H) each: of the t events before the next one."""


class Dropout(nn.Module):
    """Dropout whose mask costs little on a CPU.

    `torch.nn.Dropout` draws one number of a sequential generator per element there, which takes longer than the matrix
    products of a small encoder. Here one 64-bit draw gives the masks of four elements (probabilities are multiples of
    2^-16). Reproducible from the seed like any other use of torch's generator. On other devices it is torch's own.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {p}")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        if x.device.type != "cpu" or torch.compiler.is_compiling():
            return F.dropout(x, self.p)
        draws = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(torch.iinfo(torch.int64).min, None)
        threshold = round(self.p * 65536) - 32768
        kept = x.new_empty(x.numel())  # written as numbers: no pass over booleans
        torch.ge(draws.view(torch.int16)[: x.numel()], threshold, out=kept)
        return x * kept.mul_(65536 / (32768 - threshold)).view(x.shape)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class Positions(nn.Module):
    """Learned position vectors, counted from the start of the window or from its end.

    From the end, position 0 is always the newest event; from the start, the oldest of the window. With right padding
    the two differ for every history shorter than the window, and between training windows and evaluation.
    """

    def __init__(self, max_length: int, embedding_dim: int, count_from: Literal["start", "end"] = "start") -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(max_length, embedding_dim))
        nn.init.normal_(self.weight, std=0.02)
        self.count_from = count_from

    def forward(self, lengths: Tensor, length: int) -> Tensor:
        """lengths (B,) -> (1 or B, length, D).

        Raises:
            RecsysLabError: for windows that are longer than those that it was trained for.
        """
        if length > len(self.weight):
            raise RecsysLabError(
                f"the model was trained with positions for {len(self.weight)} events, and a window holds {length}: "
                f"--data.max_length {len(self.weight)}"
            )
        if self.count_from == "start":
            return self.weight[:length].unsqueeze(0)  # (1, L, D)
        position = lengths[:, None] - 1 - torch.arange(length, device=lengths.device)  # (B, L), negative at padding
        return self.weight[position.clamp_min(0)]  # (B, L, D)


class CausalSelfAttention(nn.Module):
    """Multi-head attention over earlier positions. Right padding needs no key mask: padding is always in the future.

    With a `bias` (1 or B, 1 or H, L, L), which is added to the logits, that says what a position sees: minus infinity
    hides an event. A bool one is True where an event is seen.
    """

    def __init__(self, embedding_dim: int, num_heads: int, attention_dropout: float = 0.0) -> None:
        super().__init__()
        if embedding_dim % num_heads:
            raise ValueError(f"embedding_dim {embedding_dim} must be a multiple of num_heads {num_heads}")
        self.num_heads, self.attention_dropout = num_heads, attention_dropout
        self.qkv = nn.Linear(embedding_dim, 3 * embedding_dim)
        self.out = nn.Linear(embedding_dim, embedding_dim)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        batch, length, dim = x.shape
        qkv = self.qkv(x).view(batch, length, 3, self.num_heads, dim // self.num_heads)
        # taken apart before heads move in front: the gradients are then put together in the product's own order
        query, key, value = (part.transpose(1, 2) for part in qkv.unbind(2))  # each (B, H, L, D/H)
        dropout = self.attention_dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, bias, dropout_p=dropout, is_causal=bias is None)
        out: Tensor = self.out(mixed.transpose(1, 2).reshape(batch, length, dim))  # (B, L, D)
        return out

    def at_last(self, x: Tensor, lengths: Tensor, bias: Tensor | None = None) -> Tensor:
        """(B, L, D), (B,) -> (B, D): what `forward` gives at each row's last real event, without the other positions.

        For one query the key and value projections move to the other side of the products, so no key or value is made:
        <q, K x + b> = <K^T q, x> + <q, b>, whose last term is the same at every position and leaves the softmax as it
        is; and a weighted mean of V x + b is V (weighted mean of x) + b.
        """
        batch, _, dim = x.shape
        heads, head_dim = self.num_heads, dim // self.num_heads
        mixed = self.weights_at_last(x, lengths, bias) @ x  # (B, H, D)
        value = torch.einsum("bhd,hkd->bhk", mixed, self.qkv.weight.view(3, heads, head_dim, dim)[2])
        value = value + self.qkv.bias.view(3, heads, head_dim)[2]
        out: Tensor = self.out(value.reshape(batch, dim))
        return out

    def weights_at_last(self, x: Tensor, lengths: Tensor, bias: Tensor | None = None) -> Tensor:
        """(B, L, D), (B,) -> (B, H, L): how each row's last real event weighs the events, 0 at padding."""
        batch, length, dim = x.shape
        heads, head_dim = self.num_heads, dim // self.num_heads
        weight = self.qkv.weight.view(3, heads, head_dim, dim)
        shift = self.qkv.bias.view(3, heads, head_dim)
        last = x[torch.arange(batch, device=x.device), lengths - 1]  # (B, D)
        query = torch.einsum("bd,hkd->bhk", last, weight[0]) + shift[0]
        query = torch.einsum("bhk,hkd->bhd", query, weight[1])  # K^T q
        scores = query @ x.transpose(1, 2) / math.sqrt(head_dim)  # (B, H, L)
        if bias is not None:
            scores = scores + bias.expand(batch, -1, -1, -1)[torch.arange(batch, device=x.device), :, lengths - 1]
        future = torch.arange(length, device=x.device) >= lengths[:, None]  # (B, L)
        return scores.masked_fill(future[:, None], float("-inf")).softmax(dim=2)

    def step(self, x: Tensor, past: KeysAndValues | None, bias: Tensor | None = None) -> tuple[Tensor, KeysAndValues]:
        """One more event (B, 1, D) after those whose keys and values are kept -> (B, 1, D), and them with its own.
        bias: (1 or B, H, 1, t) of the t events so far, its own among them."""
        batch, _, dim = x.shape
        qkv = self.qkv(x).view(batch, 1, 3, self.num_heads, dim // self.num_heads)
        query, key, value = (part.transpose(1, 2) for part in qkv.unbind(2))  # each (B, H, 1, D/H)
        if past is not None:
            key, value = (torch.cat(pair, dim=2) for pair in zip(past, (key, value), strict=True))  # (B, H, t, D/H)
        mixed = F.scaled_dot_product_attention(query, key, value, bias)
        return self.out(mixed.transpose(1, 2).reshape(batch, 1, dim)), (key, value)


NormPlace = Literal["pre", "post"]


class TransformerBlock(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x)), dropout on both branches. With `norm` `post` the norms
    stand behind the sums: norm(x + attention(x)), as Vaswani et al. 2017 had them."""

    def __init__(
        self,
        embedding_dim: int,
        num_heads: int,
        feed_forward_dim: int,
        dropout: float,
        attention_dropout: float,
        norm: NormPlace = "pre",
    ) -> None:
        super().__init__()
        self.norm_place = norm
        self.attention_norm = nn.LayerNorm(embedding_dim)
        self.attention = CausalSelfAttention(embedding_dim, num_heads, attention_dropout)
        self.feed_forward_norm = nn.LayerNorm(embedding_dim)
        self.expand = nn.Linear(embedding_dim, feed_forward_dim)
        self.contract = nn.Linear(feed_forward_dim, embedding_dim)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        return self._feed_forward(self._attended(x, self.attention(self._opened(x, self.attention_norm), bias)))

    def at_last(self, x: Tensor, lengths: Tensor, bias: Tensor | None = None) -> Tensor:
        """(B, L, D), (B,) -> (B, D): what `forward` gives at each row's last real event, at a fraction of the cost."""
        last = x[torch.arange(x.shape[0], device=x.device), lengths - 1]
        mixed = self.attention.at_last(self._opened(x, self.attention_norm), lengths, bias)
        return self._feed_forward(self._attended(last, mixed))

    def weights_at_last(self, x: Tensor, lengths: Tensor, bias: Tensor | None = None) -> Tensor:
        """(B, H, L): of its attention."""
        return self.attention.weights_at_last(self._opened(x, self.attention_norm), lengths, bias)

    def step(self, x: Tensor, past: KeysAndValues | None, bias: Tensor | None = None) -> tuple[Tensor, KeysAndValues]:
        """One more event (B, 1, D) -> what `forward` gives at it, and keys and values with its own for the next one."""
        mixed, past = self.attention.step(self._opened(x, self.attention_norm), past, bias)
        return self._feed_forward(self._attended(x, mixed)), past

    def _attended(self, x: Tensor, branch: Tensor) -> Tensor:
        return self._closed(x + self.dropout(branch), self.attention_norm)

    def _feed_forward(self, x: Tensor) -> Tensor:
        hidden = self.contract(F.gelu(self.expand(self._opened(x, self.feed_forward_norm))))
        return self._closed(x + self.dropout(hidden), self.feed_forward_norm)

    def _opened(self, x: Tensor, norm: nn.Module) -> Tensor:
        """What a branch reads."""
        return norm(x) if self.norm_place == "pre" else x

    def _closed(self, x: Tensor, norm: nn.Module) -> Tensor:
        """What a branch leaves behind."""
        return norm(x) if self.norm_place == "post" else x
