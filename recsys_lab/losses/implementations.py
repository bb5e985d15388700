"""Other ways to the full cross-entropy of a linear classifier, to choose by name and to measure against.

`full`   the plain matrix of all logits: the slow oracle, for tests.
`torch`  `torch.nn.functional.linear_cross_entropy` in chunks (torch 2.13). Not the default: on a CPU it was as fast as
         ours for 1,682 items, slower from 3,416 on, and its own choice of chunks for large catalogues is one position
         (12 times slower for 50,000 items): docs/losses-and-optimisers.md. No label smoothing.
`cut`    Apple's cut-cross-entropy (Wijmans et al. 2025), Triton kernels for newer CUDA GPUs: `pip install
         'recsys-lab[cut]'`. States in bfloat16 (float16 under its autocast), no filtering of small gradients. No label
         smoothing and no item bias. Nobody has run it within this project: only the call is tested, with a stand-in.

All take (N, D) states, the (V, D) table, (N,) targets in 1..V-1 and a (V,) bias or None, and give the mean loss; row 0,
padding, takes no part.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from recsys_lab.schema import RecsysLabError


def full(hidden: Tensor, weight: Tensor, target_ids: Tensor, bias: Tensor | None, label_smoothing: float) -> Tensor:
    logits = F.linear(hidden, weight[1:], None if bias is None else bias[1:])  # (N, V-1)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return F.cross_entropy(logits, target_ids - 1, label_smoothing=label_smoothing)


def torchs(hidden: Tensor, weight: Tensor, target_ids: Tensor, bias: Tensor | None, label_smoothing: float) -> Tensor:
    options = getattr(torch.nn, "LinearCrossEntropyOptions", None)
    if options is None:
        raise RecsysLabError(
            f"implementation torch needs torch 2.13 or newer, this is {torch.__version__}: take chunked, the default"
        )
    # A logit of -inf instead of a table without row 0, whose gradient would be copied into one with it.
    shut = torch.zeros(weight.shape[0], dtype=hidden.dtype, device=hidden.device)
    shut[0] = -torch.inf
    bias = shut if bias is None else bias + shut
    # Label smoothing would fall back to the full matrix with no more than a warning: `check` refuses it before.
    loss: Tensor = F.linear_cross_entropy(hidden, weight, target_ids, linear_bias=bias, options=options())
    return loss


def cut(hidden: Tensor, weight: Tensor, target_ids: Tensor, bias: Tensor | None, label_smoothing: float) -> Tensor:
    kernels = _cut_cross_entropy()
    if hidden.device.type != "cuda":
        raise RecsysLabError(f"implementation cut runs on CUDA, not on {hidden.device.type}: take chunked, the default")
    if bias is not None:
        raise RecsysLabError("implementation cut has no item bias: take chunked, the default")
    half = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else torch.bfloat16
    # Its backward wants half-precision states; the table may stay in float32. filter_eps=None: no gradient is left out.
    loss: Tensor = kernels.linear_cross_entropy(
        hidden.to(half), weight[1:], target_ids - 1, reduction="mean", filter_eps=None, impl="cce"
    )
    return loss.float()


IMPLEMENTATIONS = {"full": full, "torch": torchs, "cut": cut}


def check(implementation: str, label_smoothing: float) -> None:
    """Raises RecsysLabError for a name that is none, a setting it can't do, or a package that is missing."""
    if implementation != "chunked" and implementation not in IMPLEMENTATIONS:
        known = ", ".join(["chunked", *IMPLEMENTATIONS])
        raise RecsysLabError(f"unknown implementation {implementation!r}; known: {known}")
    if implementation in ("torch", "cut") and label_smoothing:
        raise RecsysLabError(f"implementation {implementation} has no label_smoothing: take chunked, the default")
    if implementation == "cut":
        _cut_cross_entropy()


def _cut_cross_entropy() -> Any:
    try:
        import cut_cross_entropy
    except ImportError as error:
        raise RecsysLabError(
            "implementation cut needs the package cut-cross-entropy and a CUDA GPU: pip install 'recsys-lab[cut]', or "
            "take chunked, the default"
        ) from error
    return cut_cross_entropy
