"""scores -> each row's best K candidates: the lists that recommendations and list metrics are made of."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from recsys_lab.words import PAD_ID

GOLDEN = 2654435761  # Knuth's multiplier: spreads neighbouring ids over 32 bits
MIN_SEARCH = 1 << 15  # numbers, and columns times k: in what is smaller, `largest` takes no detour
PART_SCORES = 1 << 18  # that are made and looked through at once: 1 MB, which a core keeps at hand


def candidate_scores(
    scores: Tensor, is_candidate: Tensor, seen_ids: Tensor | None, seen_offsets: Tensor | None
) -> Tensor:
    """A copy of the scores, (B, V) float32, with -inf where an item is no candidate of its row; see `top_items`."""
    rows = scores.detach().float()
    if len(rows) == 1:
        masked = rows.where(is_candidate, float("-inf"))
    else:  # five times faster on a CPU than choosing where a mask says so; for one row making `hidden` costs more
        hidden = torch.zeros(is_candidate.shape, device=rows.device).masked_fill_(~is_candidate, float("-inf"))
        masked = rows + hidden
    masked[:, PAD_ID] = float("-inf")  # it may hold anything
    if seen_ids is not None and seen_offsets is not None and len(seen_ids):
        owner: Tensor | int = 0 if len(rows) == 1 else torch.repeat_interleave(seen_offsets.diff())  # (S,)
        masked[owner, seen_ids] = float("-inf")
    return masked


def top_items(
    scores: Tensor,
    is_candidate: Tensor,
    seen_ids: Tensor | None,
    seen_offsets: Tensor | None,
    k: int,
) -> tuple[Tensor, Tensor]:
    """The best K candidates of each row, best first.

    Equal scores are ordered by a hash of the item id, the same in every row and on any number of processes: an order by
    id would make a model that ties everything recommend the smallest ids only.

    Args:
        scores: (B, V) float; column 0 is padding. Finite (see `target_ranks`).
        is_candidate: (V,), or (B, V) of each row its own, bool; False at padding and for items without training events.
        seen_ids: (S,) items to leave out. seen_offsets: (B + 1,) row b owns `seen_ids[seen_offsets[b]:...[b + 1]]`.
        k: K.

    Returns:
        item_ids (B, K) int64 and scores (B, K) float32; where fewer than K candidates are left, `PAD_ID` and -inf.
    """
    return best_items(candidate_scores(scores, is_candidate, seen_ids, seen_offsets), k)


def best_items(masked: Tensor, k: int, first: int = 0) -> tuple[Tensor, Tensor]:
    """`top_items` of scores, (B, C), that are -inf where an item is no candidate of its row.

    Args:
        first: id of the item in column 0; the others follow.
    """
    k = min(k, masked.shape[1])
    best, columns = largest(masked, min(k + 1, masked.shape[1]))  # one more shows whether a tie was cut
    return _listed(masked, k, best, columns, first)


def top_items_of_product(
    query: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    is_candidate: Tensor,
    seen_ids: Tensor,
    seen_offsets: Tensor,
    k: int,
) -> tuple[Tensor, Tensor]:
    """`top_items` of the scores `query @ weight.T + bias`, on a CPU where there are many: each part of the columns is
    looked through for its largest values while the processor still has it at hand.

    Args:
        query: (B, D) float32. weight: (V, D) float32. bias: (V,) or None. is_candidate: (V,). No gradients are kept.
    """
    rows, width = len(query), len(weight)
    more = min(k, width) + 1  # one more shows whether a tie was cut
    size = group_size(width, more)
    if not _is_searched(query.device, rows, width, more):
        scores = torch.nn.functional.linear(query, weight, bias)
        return top_items(scores, is_candidate, seen_ids, seen_offsets, k)
    number = width // size
    step = number * max(1, PART_SCORES // (rows * number))
    scores, largest_of = torch.empty(rows, width), torch.full((rows, number), float("-inf"))
    hidden = None if is_candidate[1:].all() else torch.zeros(width).masked_fill_(~is_candidate, float("-inf"))
    for start in range(0, width, step):
        part = scores[:, start : start + step]
        torch.mm(query, weight[start : start + step].T, out=part)
        if bias is not None:
            part += bias[start : start + step]
        if hidden is not None:
            part += hidden[start : start + step]
        if start == 0:
            part[:, PAD_ID] = float("-inf")  # it may hold anything
        whole = min(part.shape[1], size * number - start) // number  # one column of each group, so often
        if whole > 0:
            dealt = part[:, : whole * number].unflatten(1, (whole, number))
            torch.maximum(largest_of, dealt[:, 0] if whole == 1 else dealt.amax(dim=1), out=largest_of)
    if len(seen_ids):
        owner = torch.repeat_interleave(seen_offsets.diff())  # (S,)
        scores[owner, seen_ids] = float("-inf")
        group = seen_ids % number
        others = torch.arange(0, size * number, number)  # of one group
        largest_of[owner, group] = scores[owner[:, None], group[:, None] + others].amax(dim=1)
    return _listed(scores, more - 1, *_among_groups(scores, largest_of, size, more))


def _listed(masked: Tensor, k: int, best: Tensor, items: Tensor, first: int = 0) -> tuple[Tensor, Tensor]:
    """(B, V) and their K + 1 largest values, with their columns -> items and scores as `top_items` has them."""
    equal = best[:, 1:] == best[:, :-1]
    tied = equal & (best[:, 1:] > float("-inf")) if equal.any() else None
    best, items = best[:, :k], items[:, :k]
    if tied is not None and len(again := tied.any(dim=1).nonzero().squeeze(1)):
        best[again], items[again] = _by_score_then_hash(masked[again], best[again], first)
    return (items + first).masked_fill(best == float("-inf"), PAD_ID), best


def largest(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """`values.topk(k, dim=1)`, several times faster on a CPU where rows are long; which of equal values, is open.

    The columns are dealt out to groups. The k groups with the largest maxima hold the k largest values: whatever lies
    in another group is not above any of these k maxima. So only they are looked through.

    Args:
        values: (B, V). k: at most V.

    Returns:
        values and columns, (B, k), largest first.
    """
    width = values.shape[1]
    size = group_size(width, k)
    if not _is_searched(values.device, len(values), width, k):
        best, columns = values.topk(k, dim=1)
        return best, columns
    number = width // size
    dealt = values[:, : size * number].unflatten(1, (size, number))  # group g: columns g, g + number, g + 2 number, ...
    return _among_groups(values, dealt.amax(dim=1), size, k)


def group_size(width: int, k: int) -> int:
    """Columns of one group; measured: half as many columns are left as there are groups."""
    return max(2, round((width / k / 2) ** 0.5))


def _is_searched(device: torch.device, rows: int, width: int, k: int) -> bool:
    """Whether groups are worth their detour."""
    return device.type == "cpu" and min(width * k, rows * width) >= MIN_SEARCH and width >= group_size(width, k) * k


def _among_groups(values: Tensor, maxima: Tensor, size: int, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of (B, V) values and their columns, where `maxima` (B, number) are those of the groups."""
    number, width = maxima.shape[1], values.shape[1]
    groups = maxima.topk(k, dim=1, sorted=False).indices  # (B, k)
    columns = (groups[:, None] + torch.arange(0, size * number, number)[:, None]).flatten(1)  # (B, size * k)
    rest = torch.arange(size * number, width).expand(len(values), -1)
    columns = torch.cat([columns, rest], dim=1)
    best, place = values.gather(1, columns).topk(k, dim=1)
    return best, columns.gather(1, place)


def _by_score_then_hash(scores: Tensor, best: Tensor, first: int) -> tuple[Tensor, Tensor]:
    """(B, C) and their K largest values (B, K), largest first -> the same, and columns (B, K): equal scores in the
    order of their items' hashes."""
    k, order = best.shape[1], _hash_order(first, scores.shape[1], scores.device)
    in_order, threshold = scores[:, order], best[:, -1:]
    # Above the threshold all are taken; at it those that come first. A stable sort of few columns does the rest.
    above, at = in_order > threshold, in_order == threshold
    at &= at.cumsum(dim=1) <= k - above.sum(dim=1, keepdim=True)
    taken = (above | at).nonzero()[:, 1].view(len(scores), k)  # columns in hash order
    best, place = in_order.gather(1, taken).sort(dim=1, descending=True, stable=True)
    return best, order[taken.gather(1, place)]


@functools.lru_cache(maxsize=4)
def _hash_order(first: int, width: int, device: torch.device) -> Tensor:
    """(C,) columns in the order of their items' hashes."""
    return hashes(torch.arange(first, first + width, device=device)).argsort()


def hashes(items: Tensor) -> Tensor:
    """Item ids, int64, of any shape -> their hashes, by which equal scores are ordered."""
    return (items * GOLDEN) % (1 << 32)
