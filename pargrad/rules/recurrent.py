"""Recurrent layers: all steps of one layer in one direction are one operator, whose gradients need no graph of steps.

What the input gives to every gate at every step has been worked out before, in one product: `steps`, in rows, those
of one step after those of another. `sizes` says how many rows each step has. They never grow: the longest sequences
come first, and a state is moved on for as long as its sequence lasts. A rule's values are what each row gives on, in
rows as well, and the last states.

The state of all sequences is one array, whose first rows each step overwrites. The derivatives of a step by what
enters its activations are worked out for all steps at once, as factors; what is left to be done step by step, from
the last one, is to multiply them with the gradient that has come back to there. The gradients of the weights are
then one product over all rows.
"""

from itertools import accumulate, pairwise

import numpy as np

from pargrad.rules.elementwise import sigmoid
from pargrad.rules.linear import total_row, transposed
from pargrad.rules.shapes import cat
from pargrad.rules.stacks import NotStackable, shifted
from pargrad.rules.table import rule, sample


def pieces_of_slices(function, arrays, stacked, settings):
    return function(*arrays, sizes=settings["sizes"], dim=shifted(settings["dim"]))


@rule(
    sample((5, 2), sizes=(2, 2, 1), dim=0),
    sample((2, 6), sizes=(3, 3), dim=-1),
    sample((3, 2), sizes=(3,), dim=0),
    sample((2, 3), sizes=(0, 2, 1), dim=1),
    dtype="as is",
    stack=pieces_of_slices,
)
def pieces(x, *, sizes, dim):
    """Copies of the pieces of these sizes along `dim`.

    Unlike with views of one tensor, each of which would add its gradient into zeros of the whole's size, the time
    that the gradient takes does not grow with the square of their number.
    """
    before = (slice(None),) * (dim % x.ndim)
    ends = [0, *np.cumsum(sizes).tolist()]
    return tuple(x[(*before, slice(*span))].copy() for span in pairwise(ends)), lambda g: cat(*g, dim=dim)


# ----- what the rules have in common; every array may have leading axes more -----


def in_time(sizes, reverse):
    """Indices, step by step: of the rows, and of the states of the sequences that they belong to."""
    every = slice(None)
    places = [
        ((..., slice(end - size, end), every), (..., slice(size), every)) for size, end in zip(sizes, accumulate(sizes))
    ]
    return places[::-1] if reverse else places


def stepwise(step, steps, states, sizes, reverse):
    """The plain composition: step(rows, *states) gives the next states, the first of which is given on."""
    outputs = []
    for rows, running in in_time(sizes, reverse):
        following = step(steps[rows], *(state[running] for state in states))
        outputs.append(following[0])
        states = [np.concatenate([new, old[len(new) :]]) for new, old in zip(following, states)]
    return np.concatenate(outputs[::-1] if reverse else outputs), *states


def by_gate(x, count):
    """A view of an array whose rows are several gates side by side, as these gates one after another."""
    return np.moveaxis(x.reshape(*x.shape[:-1], count, x.shape[-1] // count), -2, 0)


def taken_apart(x, count):
    """The gates of rows, which may be a Tensor."""
    return pieces(x, sizes=(x.shape[-1] // count,) * count, dim=-1)


def gate_factors(numbers, width, dtype):
    """One number for each gate as a factor for all of them side by side."""
    return np.repeat(np.asarray(numbers, dtype), width)


def rows_like(x, width):
    """An array for the rows of x, which are to be of this width; in C order, whatever x's is: sums go over it."""
    return np.empty((*x.shape[:-1], width), x.dtype)


def of_weight(g, x):
    """The gradient of a matrix that each row of x was multiplied with."""
    return transposed(g) @ x


def layers_of_slices(function, arrays, stacked, settings):
    """On a stack of sequences that share the weights: as it stands."""
    states = 1 if len(arrays) == 4 else 2
    if not all(stacked[: 1 + states]) or any(stacked[1 + states :]):
        raise NotStackable
    return function(*arrays, **settings)


# ----- h' = tanh or relu of x + W h + b -----


def rnn_step(nonlinearity, weight, bias):
    def step(rows, hidden):
        total = rows + (hidden @ weight.T + bias)
        return (np.tanh(total) if nonlinearity == "tanh" else np.maximum(total, 0),)

    return step


def plain_rnn(steps, hidden, weight, bias, *, sizes, reverse, nonlinearity):
    return stepwise(rnn_step(nonlinearity, weight, bias), steps, [hidden], sizes, reverse)


@rule(
    sample((5, 3), (2, 3), (3, 3), (3,), sizes=(2, 2, 1), reverse=False, nonlinearity="tanh"),
    sample((5, 3), (2, 3), (3, 3), (3,), sizes=(2, 2, 1), reverse=True, nonlinearity="relu"),
    dtype="match",
    joint=True,
    plain=plain_rnn,
    stack=layers_of_slices,
)
def rnn(steps, hidden, weight, bias, *, sizes, reverse, nonlinearity):
    """A simple layer: the next h is tanh (or relu) of x + W h + b. Elman 1990, doi 10.1207/s15516709cog1402_1."""
    places, recurrent = in_time(sizes, reverse), np.ascontiguousarray(weight.T)
    output, hidden = np.add(steps, bias, out=rows_like(steps, len(weight))), hidden.copy()
    before = rows_like(steps, len(weight))  # h as each row found it
    for rows, running in places:
        new, h = output[rows], hidden[running]
        before[rows] = h
        new += h @ recurrent
        if nonlinearity == "tanh":
            np.tanh(new, out=new)
        else:
            np.maximum(new, 0, out=new)
        h[...] = new

    def vjp(g):
        of_output, of_hidden = g
        out = 1 - output * output if nonlinearity == "tanh" else np.asarray(~(output <= 0), output.dtype)
        carry = of_hidden.copy()
        for rows, running in reversed(places):
            slope, c = out[rows], carry[running]
            c += of_output[rows]
            slope *= c
            np.matmul(slope, weight, out=c)
        return out, carry, of_weight(out, before), total_row(out)

    return (output, hidden), vjp


# ----- long short-term memory -----


def lstm_step(weight, bias, projection=None):
    def step(rows, hidden, cell):
        enter, forget, new, leave = taken_apart(rows + (hidden @ weight.T + bias), 4)
        cell = sigmoid(forget) * cell + sigmoid(enter) * np.tanh(new)
        given = sigmoid(leave) * np.tanh(cell)
        return given if projection is None else given @ projection.T, cell

    return step


def plain_lstm(steps, hidden, cell, weight, bias, projection=None, *, sizes, reverse):
    return stepwise(lstm_step(weight, bias, projection), steps, [hidden, cell], sizes, reverse)


def lstm_forward(steps, hidden, cell, weight, bias, projection, places):
    """Output and states, then what the way back needs: gates, c and h as each row found them, and tanh of the next c.

    sigmoid(x) is tanh(x / 2) / 2 + 1 / 2, so that one call finds all gates.
    """
    width = cell.shape[-1]
    half = gate_factors([0.5, 0.5, 1, 0.5], width, steps.dtype)
    rest = 1 - half
    gates = np.add(steps, bias, out=rows_like(steps, 4 * width))
    gates *= half
    recurrent = np.multiply(weight.T, half, out=np.empty(weight.shape[::-1], weight.dtype))
    cells, tanhs = rows_like(steps, width), rows_like(steps, width)
    output, before = rows_like(steps, hidden.shape[-1]), rows_like(steps, hidden.shape[-1])
    enter, forget, new, leave = by_gate(gates, 4)
    hidden, cell = hidden.copy(), cell.copy()
    for rows, running in places:
        four, h, c = gates[rows], hidden[running], cell[running]
        before[rows], cells[rows] = h, c
        four += h @ recurrent
        np.tanh(four, out=four)
        four *= half
        four += rest
        c *= forget[rows]
        c += enter[rows] * new[rows]
        tanh = np.tanh(c, out=tanhs[rows])
        if projection is None:
            np.multiply(leave[rows], tanh, out=h)
        else:
            np.matmul(leave[rows] * tanh, projection.T, out=h)
        output[rows] = h
    return (output, hidden, cell), gates, cells, before, tanhs


def lstm_backward(g, weight, projection, gates, cells, before, tanhs, places):
    of_output, of_hidden, of_cell = g
    enter, forget, new, leave = by_gate(gates, 4)
    through = leave * (1 - tanhs * tanhs)  # from what is given on into the cell
    out = gates - gates * gates
    slopes = by_gate(out, 4)
    for slope, factor in ((slopes[0], new), (slopes[1], cells), (slopes[3], tanhs)):
        slope *= factor
    np.multiply(enter, 1 - new * new, out=slopes[2])
    into_cell, into_given = slopes[:3], slopes[3]
    carry, carry_cell = of_hidden.copy(), of_cell.copy()
    found = None if projection is None else rows_like(gates, projection.shape[0])  # the whole gradient of each row
    for rows, running in reversed(places):
        h, c, slope = carry[running], carry_cell[running], into_cell[rows]
        h += of_output[rows]
        given = h if projection is None else h @ projection
        if found is not None:
            found[rows] = h
        c += given * through[rows]
        slope *= c
        slope = into_given[rows]
        slope *= given
        c *= forget[rows]
        np.matmul(out[rows], weight, out=h)
    gradients = out, carry, carry_cell, of_weight(out, before), total_row(out)
    return gradients if found is None else (*gradients, of_weight(found, leave * tanhs))


@rule(
    sample((5, 8), (2, 2), (2, 2), (8, 2), (8,), sizes=(2, 2, 1), reverse=False),
    sample((5, 8), (2, 2), (2, 2), (8, 2), (8,), sizes=(2, 2, 1), reverse=True),
    dtype="match",
    joint=True,
    plain=plain_lstm,
    stack=layers_of_slices,
)
def lstm(steps, hidden, cell, weight, bias, *, sizes, reverse):
    """Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000: with i, f and o the sigmoid and g the
    tanh of what enters each gate, the next c is f c + i g, and the next h is o tanh(c).
    """
    places = in_time(sizes, reverse)
    value, gates, cells, before, tanhs = lstm_forward(steps, hidden, cell, weight, bias, None, places)
    return value, lambda g: lstm_backward(g, weight, None, gates, cells, before, tanhs, places)


@rule(
    sample((5, 12), (2, 2), (2, 3), (12, 2), (12,), (2, 3), sizes=(2, 2, 1), reverse=False),
    sample((5, 12), (2, 2), (2, 3), (12, 2), (12,), (2, 3), sizes=(2, 2, 1), reverse=True),
    dtype="match",
    joint=True,
    plain=plain_lstm,
    stack=layers_of_slices,
)
def lstm_projected(steps, hidden, cell, weight, bias, projection, *, sizes, reverse):
    """`lstm` whose h is a projection, to fewer dimensions, of what the cell gives. Sak et al. 2014, arXiv 1402.1128."""
    places = in_time(sizes, reverse)
    value, gates, cells, before, tanhs = lstm_forward(steps, hidden, cell, weight, bias, projection, places)
    return value, lambda g: lstm_backward(g, weight, projection, gates, cells, before, tanhs, places)


# ----- gated recurrent units -----


def gru_step(weight, bias):
    def step(rows, hidden):
        reset_x, update_x, new_x = taken_apart(rows, 3)
        reset_h, update_h, new_h = taken_apart(hidden @ weight.T + bias, 3)
        reset, update = sigmoid(reset_x + reset_h), sigmoid(update_x + update_h)
        new = np.tanh(new_x + reset * new_h)
        return ((hidden - new) * update + new,)

    return step


def plain_gru(steps, hidden, weight, bias, *, sizes, reverse):
    return stepwise(gru_step(weight, bias), steps, [hidden], sizes, reverse)


@rule(
    sample((5, 6), (2, 2), (6, 2), (6,), sizes=(2, 2, 1), reverse=False),
    sample((5, 6), (2, 2), (6, 2), (6,), sizes=(2, 2, 1), reverse=True),
    dtype="match",
    joint=True,
    plain=plain_gru,
    stack=layers_of_slices,
)
def gru(steps, hidden, weight, bias, *, sizes, reverse):
    """Cho et al. 2014, arXiv 1406.1078, the reset gate applied to the product with h, not before it.

    With r and z the sigmoid of what enters those gates, n is tanh(x + r (W h + b)), and the next h is (h - n) z + n.
    """
    places, width = in_time(sizes, reverse), hidden.shape[-1]
    half = gate_factors([0.5, 0.5, 1], width, steps.dtype)  # as in lstm_forward
    gates = np.multiply(steps, half, out=rows_like(steps, 3 * width))
    recurrent = np.multiply(weight.T, half, out=np.empty(weight.shape[::-1], weight.dtype))
    constant = bias * half
    output, before, products = (rows_like(steps, width) for _ in range(3))
    reset, update, new = by_gate(gates, 3)
    hidden, sigmoids = hidden.copy(), gates[..., : 2 * width]
    for rows, running in places:
        h, n, both = hidden[running], new[rows], sigmoids[rows]
        before[rows] = h
        product = h @ recurrent
        product += constant
        both += product[..., : 2 * width]
        np.tanh(both, out=both)
        both *= 0.5
        both += 0.5
        product = products[rows] = product[..., 2 * width :]
        n += reset[rows] * product
        np.tanh(n, out=n)
        h -= n
        h *= update[rows]
        h += n
        output[rows] = h

    def vjp(g):
        of_output, of_hidden = g
        reset, update, new = by_gate(gates, 3)
        out, of_product = np.empty_like(gates), np.empty_like(gates)
        into_new, factors = by_gate(out, 3)[2], by_gate(of_product, 3)
        np.multiply(1 - update, 1 - new * new, out=into_new)
        np.multiply(into_new * products, reset - reset * reset, out=factors[0])
        np.multiply(before - new, update - update * update, out=factors[1])
        np.multiply(into_new, reset, out=factors[2])
        carry = of_hidden.copy()
        for rows, running in reversed(places):
            c, factor, slope = carry[running], factors[rows], into_new[rows]
            c += of_output[rows]
            factor *= c
            slope *= c
            c *= update[rows]
            c += of_product[rows] @ weight
        out[..., : 2 * width] = of_product[..., : 2 * width]
        return out, carry, of_weight(of_product, before), total_row(of_product)

    return (output, hidden), vjp
