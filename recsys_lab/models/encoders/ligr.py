"""LiGR: SASRec with gated residual connections and SwiGLU; with sampled softmax it is eSASRec.

Papers: Borisyuk et al. 2025, "From Features to Transformers: Redefining Ranking for Scalable Impact" (the block);
Tikhonovich et al. 2025, "eSASRec: Enhancing Transformer-based Recommendations in a Modular Fashion" (its use here, and
the defaults; its loss is `--model.loss SampledSoftmax` with 256 negatives).

What differs from the papers: a final norm, the house's initial weights, and dropout on the branches and inside the
feed-forward layer only, with attention dropout as a setting.
"""

from __future__ import annotations

from typing import Any, Literal

from torch import nn

from recsys_lab.arguments import Depth, DropShare, Size
from recsys_lab.models.blocks.gated_block import FeedForward, GatedBlock
from recsys_lab.models.encoders.sasrec import SASRec


class LiGR(SASRec):
    """LiGR under any loss.

    Args:
        embedding_dim: D.
        num_layers: blocks.
        num_heads: attention heads; must divide D.
        dropout: on the embedding, on each block's branches and inside its feed-forward layer.
        positions: learned positions counted from the window's `start` or `end`.
        scale_embedding: multiply item vectors by sqrt(D) before the positions are added.
        feed_forward: `swiglu`, or `gelu` as in SASRec.
        gate: a gate on each branch; False = branches are added as in SASRec.
        base: those of `SASRec`, and loss, negatives, optimization and more: see `NextItemModule`.
    """

    def __init__(
        self,
        embedding_dim: Size = 256,
        num_layers: Depth = 2,
        num_heads: Size = 4,
        dropout: DropShare = 0.2,
        positions: Literal["start", "end"] = "end",
        scale_embedding: bool = False,
        feed_forward: FeedForward = "swiglu",
        gate: bool = True,
        **base: Any,
    ) -> None:
        super().__init__(**base)

    def block(self) -> nn.Module:
        s = self.settings
        inner = s.feed_forward_dim or 4 * s.embedding_dim
        sizes = (s.embedding_dim, s.num_heads, inner)
        return GatedBlock(*sizes, s.dropout, s.attention_dropout, s.norm, s.feed_forward, s.gate)
