"""The items whose vectors point the same way."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from recsys_lab.contracts import Scorer
from recsys_lab.ops.top_items import top_items


@torch.inference_mode()
def similar_items(scorer: Scorer, row: int, is_candidate: Tensor, k: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Rows and cosines of the k items most like item `row`, best first; None where items have no vectors.

    Args:
        is_candidate: (V,) bool.
    """
    blocks = list(scorer.linear_blocks() or ())
    if not blocks:
        return None
    own = next(block.weight[row - block.items.start] for block in blocks if row in range(*block.items.indices(1 << 62)))
    cosine = torch.cat([F.cosine_similarity(block.weight.float(), own[None].float(), dim=1) for block in blocks])
    seen = torch.tensor([row], device=cosine.device)
    items, scores = top_items(cosine[None], is_candidate, seen, torch.tensor([0, 1], device=cosine.device), k)
    filled = items[0] > 0
    return items[0][filled].numpy(force=True), scores[0][filled].numpy(force=True)
