"""Small tensors that the tests of the engine compute with."""

import pargrad as pg

X, Y = [0.5, 1.5, 2.5], [2.0, 4.0, 0.5]


def leaf(values, dtype=pg.float32):
    return pg.tensor(values, dtype=dtype, requires_grad=True)


def gradient_of(t):
    return None if t.grad is None else t.grad.numpy()
