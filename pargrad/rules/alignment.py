"""Connectionist temporal classification: the probability of a sequence of labels, over all its alignments in time.

Graves et al. 2006. Between and around the labels there may be blanks: an alignment is a walk along the states
blank, label, blank, label, ..., blank, which at each step in time stays, goes to the next state, or skips a blank
between two labels that differ. All is done in logarithms, for all examples of a batch at once.
"""

import numpy as np

from pargrad.rules.table import rule, sample


def states(targets, target_lengths, blank):
    """The label of each state (N, 2S + 1), and whether it may be reached by skipping the blank before it."""
    targets, lengths = np.asarray(targets), np.asarray(target_lengths)
    count, longest = targets.shape
    labels = np.full((count, 2 * longest + 1), blank, np.int64)
    labels[:, 1::2] = np.where(np.arange(longest) < lengths[:, None], targets, blank)
    skips = np.zeros(labels.shape, bool)
    skips[:, 2:] = (labels[:, 2:] != blank) & (labels[:, 2:] != labels[:, :-2])
    return labels, skips


def moved(x, steps, low):
    """Every state's value `steps` states later (or earlier, where negative); what comes in is `low`."""
    filling = np.full((x.shape[0], abs(steps)), low, x.dtype)
    if steps > 0:
        return np.concatenate([filling, x], axis=1)[:, : x.shape[1]]
    return np.concatenate([x, filling], axis=1)[:, -steps:]


def emitted(x, labels):
    """The log-probability of each state's label at each time: (T, N, 2S + 1)."""
    return x[(slice(None), np.arange(len(labels))[:, None], labels)]


def prefixes(emissions, skips, low):
    """For each time, (N, 2S + 1): the log-probability of all walks that end in a state; `low` is impossible."""
    alpha = np.where(np.arange(skips.shape[1]) < 2, emissions[0], low)
    alphas = [alpha]
    for emission in emissions[1:]:
        skipped = np.where(skips, moved(alpha, 2, low), low)
        alpha = np.logaddexp(np.logaddexp(alpha, moved(alpha, 1, low)), skipped) + emission
        alphas.append(alpha)
    return alphas


def suffixes(emissions, skips, input_lengths, target_lengths):
    """For each time, (N, 2S + 1): the log-probability of all that may follow a state, to the end of its example."""
    state, last = np.arange(skips.shape[1]), 2 * target_lengths[:, None]
    ends = np.where((state == last) | (state == last - 1), 0, -np.inf).astype(emissions.dtype)
    beta = np.full(ends.shape, -np.inf, emissions.dtype)
    betas = []
    for time in reversed(range(len(emissions))):
        if time + 1 < len(emissions):
            ahead = beta + emissions[time + 1]
            skipped = moved(np.where(skips, ahead, -np.inf), -2, -np.inf)
            beta = np.logaddexp(np.logaddexp(ahead, moved(ahead, -1, -np.inf)), skipped)
        beta = np.where((input_lengths == time + 1)[:, None], ends, beta)
        betas.append(beta)
    return betas[::-1]


def likelihood(alphas, input_lengths, target_lengths, low):
    """The log-probability of each example's labels: of the walks that end in the last label or the blank after it."""
    rows, last = np.arange(len(target_lengths)), 2 * target_lengths
    final = np.stack(alphas)[(np.maximum(input_lengths - 1, 0), rows)]
    label = np.where(target_lengths > 0, final[(rows, np.maximum(last - 1, 0))], low)
    of_something = np.logaddexp(final[(rows, last)], label)
    return np.where(input_lengths > 0, of_something, np.where(target_lengths > 0, low, 0).astype(of_something.dtype))


def plain_ctc_loss(x, targets, input_lengths, target_lengths, *, blank=0):
    # A finite number in the place of -inf: logaddexp has no derivative there.
    input_lengths, target_lengths = np.asarray(input_lengths), np.asarray(target_lengths)
    labels, skips = states(targets, target_lengths, blank)
    emissions = np.maximum(emitted(x, labels), -1e30)
    value = likelihood(prefixes(emissions, skips, -1e30), input_lengths, target_lengths, -1e30)
    return np.where(value < -1e29, np.inf, -value)


def labels_of(*lengths, size=2):
    """A sample's targets (examples, longest), in which two equal labels follow each other."""
    return lambda generator: np.sort(generator.integers(1, size + 1, lengths), axis=1)


def exactly(*values):
    return lambda generator: np.array(values)


@rule(
    sample((6, 2, 3), labels_of(2, 3), exactly(6, 6), exactly(2, 3), domain=(-3.0, -0.1)),
    sample((6, 3, 4), labels_of(3, 2, size=3), exactly(5, 6, 2), exactly(2, 0, 1), domain=(-3.0, -0.1)),
    sample((3, 1, 2), exactly([0]), exactly(2), exactly(1), domain=(-3.0, -0.1), blank=1),
    dtype="as is",
    plain=plain_ctc_loss,
)
def ctc_loss(x, targets, input_lengths, target_lengths, *, blank=0):
    """-log P(targets) for each example: x (T, N, C) log-probabilities, targets (N, S), both lengths (N,).

    Infinite where no alignment is possible; the gradient is 0 there.
    """
    labels, skips = states(targets, target_lengths, blank)
    alphas = prefixes(emitted(x, labels), skips, -np.inf)
    value = -likelihood(alphas, input_lengths, target_lengths, -np.inf)

    def vjp(g):
        labels, skips = states(targets, target_lengths, blank)
        betas = np.stack(suffixes(emitted(x, labels), skips, input_lengths, target_lengths))
        # The share of the walks that are in a state at a time, among all; none are after an example's end.
        possible = np.isfinite(value)
        within = np.arange(len(x))[:, None] < np.where(possible, input_lengths, 0)
        total = np.where(possible, value, 0)
        with np.errstate(invalid="ignore", over="ignore"):
            shares = np.where(within[:, :, None], np.exp(np.stack(alphas) + betas + total[:, None]), 0)
        out = np.zeros(x.shape, x.dtype)
        places = np.arange(len(x))[:, None, None], np.arange(len(labels))[:, None], labels
        np.subtract.at(out, places, shares * g[:, None])
        return out

    return value, vjp, None, None, None
