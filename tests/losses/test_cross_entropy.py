from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from loss_scorers import TableScorer
from torch import Tensor

from recsys_lab.losses import CrossEntropy
from recsys_lab.ops.linear_cross_entropy import ItemTiles, chunk_shape, linear_cross_entropy
from recsys_lab.words import RecsysLabError

N, NUM_ITEMS, D = 37, 53, 8


def inputs(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(N, D, generator=generator, dtype=dtype).requires_grad_()
    targets = torch.randint(1, NUM_ITEMS + 1, (N,), generator=generator)
    targets[:2] = torch.tensor([1, NUM_ITEMS])  # both ends of the catalogue
    return hidden, targets


def relative_error(value: Tensor, reference: Tensor) -> float:
    return ((value - reference).norm() / reference.norm()).item()


def plain(hidden: Tensor, targets: Tensor, scorer: TableScorer, smoothing: float, temperature: float) -> Tensor:
    logits = scorer.all_scores(hidden)[:, 1:] / temperature
    return F.cross_entropy(logits, targets - 1, label_smoothing=smoothing)


@pytest.mark.parametrize("chunk_size", [None, 1, 10, 37, 64])  # 10 does not divide N = 37
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("smoothing", "temperature"), [(0.0, 1.0), (0.1, 0.7)])
def test_equals_plain_cross_entropy(chunk_size: int | None, bias: bool, smoothing: float, temperature: float) -> None:
    hidden, targets = inputs()
    scorer = TableScorer.random(NUM_ITEMS, D, bias)
    wanted = [hidden, *scorer.parameters()]
    loss = CrossEntropy(smoothing, temperature, chunk_size)(hidden, targets, scorer)
    reference = plain(hidden, targets, scorer, smoothing, temperature)
    assert relative_error(loss, reference) < 1e-6
    # An upstream factor other than 1 must reach every gradient.
    for ours, theirs in zip(
        torch.autograd.grad(3.0 * loss, wanted), torch.autograd.grad(3.0 * reference, wanted), strict=True
    ):
        assert relative_error(ours, theirs) < 1e-6


@pytest.mark.parametrize("chunk_size", [None, 10, 64])
@pytest.mark.parametrize("block_size", [1, 7, 52, 53, 100])  # 53 items
@pytest.mark.parametrize(("smoothing", "bias"), [(0.0, False), (0.1, True)])
def test_blocks_of_items_change_nothing(chunk_size: int | None, block_size: int, smoothing: float, bias: bool) -> None:
    hidden, targets = inputs()
    scorer = TableScorer.random(NUM_ITEMS, D, bias)
    wanted = [hidden, *scorer.parameters()]
    loss = linear_cross_entropy(
        hidden,
        scorer.weight,
        targets,
        scorer.bias,
        label_smoothing=smoothing,
        chunk_size=chunk_size,
        block_size=block_size,
    )
    reference = plain(hidden, targets, scorer, smoothing, 1.0)
    assert relative_error(loss, reference) < 1e-6
    for ours, theirs in zip(torch.autograd.grad(loss, wanted), torch.autograd.grad(reference, wanted), strict=True):
        assert relative_error(ours, theirs) < 1e-6
    with torch.no_grad():
        again = linear_cross_entropy(
            hidden, scorer.weight, targets, scorer.bias, label_smoothing=smoothing, block_size=block_size
        )
    assert relative_error(again, reference) < 1e-6


@pytest.mark.parametrize("block_size", [None, 20])
@pytest.mark.parametrize("target", [0, NUM_ITEMS + 1])
def test_a_target_that_is_no_item_is_an_error(block_size: int | None, target: int) -> None:
    hidden, targets = inputs()
    targets[3] = target
    with pytest.raises((IndexError, RuntimeError), match="index|target_ids"):
        linear_cross_entropy(hidden, TableScorer.random(NUM_ITEMS, D).weight, targets, block_size=block_size)


def test_backward_hands_the_gradients_over() -> None:
    """No second table-sized tensor: what forward made is what arrives in `.grad`, unless the graph is kept."""
    hidden, targets = inputs()
    scorer = TableScorer.random(NUM_ITEMS, D, bias=True)
    for kept in (True, False):
        loss = CrossEntropy(label_smoothing=0.1)(hidden, targets, scorer)
        made = [tensor.data_ptr() for tensor in loss.grad_fn.saved_tensors]
        for tensor in (hidden, *scorer.parameters()):
            tensor.grad = None
        loss.backward(retain_graph=kept)
        arrived = [tensor.grad.data_ptr() for tensor in (hidden, *scorer.parameters())]
        assert (arrived == made) is not kept
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()


def test_a_kept_graph_gives_the_same_gradient_twice() -> None:
    hidden, targets = inputs()
    loss = CrossEntropy()(hidden, targets, TableScorer.random(NUM_ITEMS, D))
    once, twice = (torch.autograd.grad(3.0 * loss, hidden, retain_graph=kept)[0] for kept in (True, False))
    assert torch.equal(once, twice)


@pytest.mark.parametrize("block_size", [None, 4])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_gradcheck(bias: bool, smoothing: float, block_size: int | None) -> None:
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(5, 3, generator=generator, dtype=torch.float64).requires_grad_()
    scorer = TableScorer.random(6, 3, bias, dtype=torch.float64)
    targets = torch.tensor([1, 6, 3, 3, 2])
    assert torch.autograd.gradcheck(
        lambda *tensors: linear_cross_entropy(
            tensors[0],
            tensors[1],
            targets,
            *tensors[2:],
            label_smoothing=smoothing,
            chunk_size=2,
            block_size=block_size,
        ),
        (hidden, *scorer.parameters()),
    )


def test_a_scorer_without_a_table_gives_the_same() -> None:
    hidden, targets = inputs()
    linear, hidden_table = TableScorer.random(NUM_ITEMS, D), TableScorer.random(NUM_ITEMS, D, linear=False)
    for loss in (CrossEntropy(), CrossEntropy(0.1, 2.0)):
        fused, fallback = loss(hidden, targets, linear), loss(hidden, targets, hidden_table)
        torch.testing.assert_close(fused, fallback)
        gradients = [torch.autograd.grad(value, hidden)[0] for value in (fused, fallback)]
        torch.testing.assert_close(*gradients)


def test_padding_row_takes_no_part() -> None:
    hidden, targets = inputs()
    scorer = TableScorer.random(NUM_ITEMS, D, bias=True)
    before = CrossEntropy()(hidden, targets, scorer)
    with torch.no_grad():
        scorer.weight[0] = 1e6
        scorer.bias[0] = 1e6
    after = CrossEntropy()(hidden, targets, scorer)
    after.backward()
    assert before.item() == after.item()
    assert scorer.weight.grad[0].abs().max() == 0.0
    assert scorer.bias.grad[0] == 0.0


def test_a_tied_table_gets_both_gradients() -> None:
    """The table that scores is the one that embeds the inputs: both uses must reach it."""
    scorer, reference = TableScorer.random(NUM_ITEMS, D), TableScorer.random(NUM_ITEMS, D)
    item_ids = torch.arange(1, 11)
    CrossEntropy()(torch.tanh(scorer.weight[item_ids]), item_ids + 1, scorer).backward()
    plain(torch.tanh(reference.weight[item_ids]), item_ids + 1, reference, 0.0, 1.0).backward()
    torch.testing.assert_close(scorer.weight.grad, reference.weight.grad)


def test_value_without_gradients() -> None:
    hidden, targets = inputs()
    scorer = TableScorer.random(NUM_ITEMS, D)
    loss = CrossEntropy(label_smoothing=0.1)
    expected = loss(hidden, targets, scorer).item()
    with torch.no_grad():
        value = loss(hidden, targets, scorer)
        assert not value.requires_grad
        assert value.item() == expected
    with torch.inference_mode():
        assert loss(hidden, targets, scorer).item() == expected


@pytest.mark.parametrize("frozen", ["hidden", "weight", "bias"])
def test_a_frozen_input_leaves_the_other_gradients_right(frozen: str) -> None:
    hidden, targets = inputs()
    scorer = TableScorer.random(NUM_ITEMS, D, bias=True)
    tensors = {"hidden": hidden, "weight": scorer.weight, "bias": scorer.bias}
    tensors[frozen].requires_grad_(False)
    wanted = [t for name, t in tensors.items() if name != frozen]
    ours = torch.autograd.grad(CrossEntropy()(hidden, targets, scorer), wanted)
    theirs = torch.autograd.grad(plain(hidden, targets, scorer, 0.0, 1.0), wanted)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(dtype: torch.dtype) -> None:
    hidden, targets = inputs()
    scorer = TableScorer.random(NUM_ITEMS, D, bias=True)
    wanted = [hidden, *scorer.parameters()]
    exact = plain(hidden, targets, scorer, 0.1, 1.0)
    with torch.autocast("cpu", dtype=dtype):
        loss = CrossEntropy(label_smoothing=0.1)(hidden, targets, scorer)
    assert loss.dtype == torch.float32
    assert relative_error(loss, exact) < 0.01
    for ours, theirs in zip(torch.autograd.grad(loss, wanted), torch.autograd.grad(exact, wanted), strict=True):
        assert ours.dtype == torch.float32
        assert relative_error(ours, theirs) < 0.02


@pytest.mark.parametrize("precision", ["high", "medium"])
def test_the_loss_is_exact_where_products_may_round(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums of exponentials are then sums, whatever `with_ones` would give."""
    hidden, targets = inputs()
    scorer = TableScorer.random(NUM_ITEMS, D)
    with torch.no_grad():
        expected = plain(hidden, targets, scorer, 0.0, 1.0)
    monkeypatch.setattr(ItemTiles, "with_ones", property(lambda self: pytest.fail("a product for the sums")))
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: precision)
    loss = CrossEntropy()(hidden, targets, scorer)
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6) and hidden.grad is not None


def test_bfloat16_parameters() -> None:
    hidden, targets = inputs()
    scorer = TableScorer.random(NUM_ITEMS, D).to(torch.bfloat16)
    states = hidden.detach().to(torch.bfloat16).requires_grad_()
    exact = plain(states.float(), targets, TableScorer(scorer.weight.detach().float()), 0.0, 1.0)
    loss = CrossEntropy()(states, targets, scorer)
    loss.backward()
    assert loss.dtype == torch.float32
    assert relative_error(loss, exact) < 0.01
    assert states.grad.dtype == scorer.weight.grad.dtype == torch.bfloat16


@pytest.mark.parametrize("scale", [1e4, -1e4])
def test_extreme_logits_stay_finite(scale: float) -> None:
    """One position whose target has by far the best score, and one whose target has the worst."""
    scorer = TableScorer.of_scores(torch.tensor([1.0, 0.0, -1.0]))
    hidden = torch.full((2, 1), scale, requires_grad=True)
    loss = CrossEntropy()(hidden, torch.tensor([1, 3]), scorer)
    loss.backward()
    assert loss.item() == pytest.approx(1e4)  # (0 + 2e4) / 2
    assert torch.isfinite(hidden.grad).all() and torch.isfinite(scorer.weight.grad).all()


@pytest.mark.parametrize("block_size", [None, 20])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("size", "shifted"), [(1.0, False), (4.0, False), (40.0, True)])
def test_the_largest_logit_is_taken_off_where_exponentials_could_overflow(
    monkeypatch: pytest.MonkeyPatch, size: float, shifted: bool, bias: bool, block_size: int | None
) -> None:
    answers: list[bool] = []
    ask = ItemTiles.can_overflow

    def overheard(items: ItemTiles, states: Tensor) -> bool:
        answers.append(ask(items, states))
        return answers[-1]

    monkeypatch.setattr(ItemTiles, "can_overflow", overheard)
    hidden, targets = inputs()
    scorer = TableScorer.random(NUM_ITEMS, D, bias)
    with torch.no_grad():
        hidden *= size / hidden.norm(dim=1).max() / scorer.weight[1:].norm(dim=1).max() * 8  # largest logit: 8 * size
        if bias:
            scorer.bias *= size
    wanted = [hidden, *scorer.parameters()]
    loss = linear_cross_entropy(hidden, scorer.weight, targets, scorer.bias, block_size=block_size)
    assert answers == [shifted]
    exact = [tensor.detach().double().requires_grad_() for tensor in wanted]
    logits = F.linear(exact[0], *exact[1:])[:, 1:]
    reference = F.cross_entropy(logits, targets - 1)
    assert relative_error(loss, reference) < 1e-6
    for ours, theirs in zip(torch.autograd.grad(loss, wanted), torch.autograd.grad(reference, exact), strict=True):
        assert relative_error(ours, theirs) < size * 1e-6  # float32 logits are as exact as they are small


def test_by_hand() -> None:
    scorer = TableScorer.of_scores(torch.tensor([2.0, 1.0, 0.0]))
    loss = CrossEntropy()(torch.ones(1, 1), torch.tensor([1]), scorer)
    assert loss.item() == pytest.approx(0.40760596)  # log(1 + e^-1 + e^-2)


@pytest.mark.parametrize("num_positions", [1, 33, 6_400])
@pytest.mark.parametrize(
    ("num_items", "most"),
    [(1_682, 3.5e6), (12_101, 3.5e6), (10**5, 9.6e6), (5 * 10**5, 4.8e7), (10**6, 4.8e7), (10**8, 3.5e6)],
)
def test_memory_of_logits_is_bounded(num_items: int, most: float, num_positions: int) -> None:
    chunk, block = chunk_shape(num_positions, num_items, "cpu")
    assert chunk * block <= most
    for size, total in ((chunk, num_positions), (block, num_items)):
        assert total % size == 0 or total % size > size // 5  # no thin rest


@pytest.mark.parametrize(
    "arguments",
    [{"label_smoothing": 1.0}, {"label_smoothing": -0.1}, {"temperature": 0.0}, {"chunk_size": 0}],
)
def test_bad_arguments_are_named(arguments: dict[str, float]) -> None:
    with pytest.raises(RecsysLabError, match=next(iter(arguments))):
        CrossEntropy(**arguments)
