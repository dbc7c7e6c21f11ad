"""Connectionist temporal classification against torch's: values, gradients by scores, shards, refusals."""

import numpy as np
import pytest
import torch

import pargrad as pg
import pargrad.nn.functional as F
from pargrad import nn

torch.set_num_threads(1)
REDUCTIONS = ["mean", "sum", "none"]
TOLERANCE = {"float64": 1e-12, "float32": 2e-6}


def sequences(library, dtype, targets, input_lengths, target_lengths, times=7, **options):
    """ctc_loss of log_softmax, and its gradient by the scores."""
    batch = () if np.ndim(target_lengths) == 0 else (len(target_lengths),)
    scores = np.random.default_rng(4).normal(size=(times, *batch, 5)).astype(dtype)
    scores = library.tensor(scores, requires_grad=True)
    functional = F if library is pg else torch.nn.functional
    lengths = (library.tensor(np.array(x)) for x in (targets, input_lengths, target_lengths))
    value = functional.ctc_loss(functional.log_softmax(scores, -1), *lengths, **options)
    value.backward(library.tensor(np.linspace(1, 2, value.numel()).reshape(value.shape).astype(dtype)))
    return value.detach().numpy(), scores.grad.numpy()


SEQUENCES = {
    "rows": ([[1, 2, 3], [4, 4, 1]], [7, 7], [3, 3]),
    "rows of different lengths": ([[1, 2, 0], [4, 0, 0], [2, 2, 2]], [5, 7, 6], [2, 1, 3]),
    "one after the other": ([1, 2, 4, 2, 2, 2], [5, 7, 6], [2, 1, 3]),
    "no labels": ([[1, 2], [3, 4]], [7, 3], [2, 0]),
    "no time": ([[1, 2], [3, 4]], [7, 0], [2, 0]),
    "just enough time": ([[1, 1, 2], [1, 2, 3]], [4, 3], [3, 3]),
    "one example": ([1, 2, 1], 6, 3),
    "one example one after the other": ([1, 2, 1], [6], [3]),
}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("sequence", SEQUENCES.values(), ids=SEQUENCES)
def test_ctc_loss(sequence, reduction, dtype):
    got, expected = (sequences(library, dtype, *sequence, reduction=reduction) for library in (pg, torch))
    for one, other in zip(got, expected):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        np.testing.assert_allclose(one, other, rtol=5 * TOLERANCE[dtype], atol=TOLERANCE[dtype])


def test_ctc_loss_with_another_blank():
    sequence = ([[0, 1, 0], [3, 3, 1]], [7, 6], [3, 2])
    for one, other in zip(*(sequences(library, "float64", *sequence, blank=4) for library in (pg, torch))):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_an_impossible_alignment_costs_infinity_or_nothing(reduction):
    sequence = ([[1, 1, 2], [1, 2, 3]], [3, 5], [3, 3])
    got, expected = (
        sequences(library, "float64", *sequence, reduction=reduction, zero_infinity=True) for library in (pg, torch)
    )
    for one, other in zip(got, expected):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-13)
    got, expected = (sequences(library, "float64", *sequence, reduction=reduction) for library in (pg, torch))
    np.testing.assert_allclose(got[0], expected[0], rtol=1e-12)
    assert np.isinf(got[0]).any()
    finite = np.isfinite(expected[1])
    np.testing.assert_allclose(got[1][finite], expected[1][finite], rtol=1e-12, atol=1e-13)


def test_ctc_loss_of_shards_adds_up():
    scores = pg.tensor(np.random.default_rng(5).normal(size=(7, 4, 5)))
    log_probs = F.log_softmax(scores, -1)
    targets, inputs, lengths = np.array([[1, 2, 3], [4, 4, 1], [2, 0, 0], [1, 1, 1]]), [7, 6, 7, 5], [3, 3, 1, 3]
    total = divisor = 0.0
    for part in (slice(0, 1), slice(1, 4)):
        shard = F.ctc_loss.sum_and_divisor(log_probs[:, part], pg.tensor(targets[part]), inputs[part], lengths[part])
        total, divisor = total + shard[0].item(), divisor + shard[1]
    expected = F.ctc_loss(log_probs, pg.tensor(targets), inputs, lengths).item()
    assert total / divisor == pytest.approx(expected, rel=1e-12)


LOG_PROBS = F.log_softmax(pg.ones(5, 2, 4), -1)
LABELS = pg.tensor([[1, 2], [3, 3]])


@pytest.mark.parametrize(
    ("wrong", "error", "told"),
    [
        (lambda: F.ctc_loss(LOG_PROBS, LABELS, [5, 6], [2, 2]), ValueError, "input_lengths of 0 to 5"),
        (lambda: F.ctc_loss(LOG_PROBS, LABELS, [5], [2, 2]), ValueError, "2 integers as input_lengths"),
        (lambda: F.ctc_loss(LOG_PROBS, LABELS, [5, 5], [2, 3]), ValueError, r"\(2, 3 or more\)"),
        (lambda: F.ctc_loss(LOG_PROBS, LABELS.reshape(-1), [5, 5], [2, 1]), ValueError, r"\(3,\)"),
        (lambda: F.ctc_loss(LOG_PROBS, LABELS, [5, 5], [2, 2], blank=4), ValueError, "blank .* 0 to 3"),
        (lambda: F.ctc_loss(LOG_PROBS, LABELS + 2, [5, 5], [2, 2]), IndexError, "targets from 0 to 3"),
        (lambda: F.ctc_loss(LABELS, LABELS, [5, 5], [2, 2]), ValueError, "floating-point log_probs"),
    ],
)
def test_refusals(wrong, error, told):
    with pytest.raises(error, match=told):
        wrong()


@pytest.mark.parametrize("options", [{}, {"reduction": "none"}, {"blank": 3, "zero_infinity": True}], ids=str)
def test_the_module_holds_the_settings_of_the_function(options):
    arguments = LOG_PROBS, pg.tensor([[1, 2], [2, 2]]), [5, 2], [2, 2]
    got, expected = nn.CTCLoss(**options)(*arguments), F.ctc_loss(*arguments, **options)
    np.testing.assert_array_equal(got.numpy(), expected.numpy())
