"""Operators that take complex numbers apart and put them together, and what other rules need to know of them.

None of them is holomorphic: each vjp here takes and gives torch's complex gradients, dL/dx + i dL/dy for z = x + iy.
"""

import numpy as np

from pargrad.rules import table
from pargrad.rules.stacks import elementwise
from pargrad.rules.table import sample


def rule(*samples, **options):
    return table.rule(*samples, holomorphic=False, **options)


def complexes(*shape, low=-2.0, high=2.0):
    """A sample's complex argument of this shape, both parts uniform in [low, high]."""
    return lambda generator: np.asarray(generator.uniform(low, high, shape) + 1j * generator.uniform(low, high, shape))


def is_complex(x):
    """Of an array, a Tensor or a number."""
    return x.dtype.kind == "c" if hasattr(x, "dtype") else np.iscomplexobj(x)


def ordered(*arrays):
    """Refuses complex numbers, as torch does where an order is meant, or none is defined: numpy has one of its own."""
    for x in arrays:
        if is_complex(x):
            raise ValueError(
                "expected real numbers, complex ones have no order: write it for x.real, x.imag or x.abs()"
            )


def check_complex(x, instead):
    if not is_complex(x):
        raise ValueError(f"expected a complex tensor, got {x.dtype}: {instead}")


def squared_size(z):
    """|z| ** 2, which z * z is of real numbers alone."""
    return z.real * z.real + z.imag * z.imag if is_complex(z) else z * z


UNARY = (sample(complexes(2, 3)), sample(complexes()), sample(complexes(0, 2)))


@rule(sample((2, 3), (2, 3)), sample((4, 1), (3,)), sample((), ()), dtype="match", stack=elementwise)
def complex(real, imag):
    """real + i imag, of two float tensors of one dtype."""
    if real.dtype.kind != "f" or imag.dtype.kind != "f":
        raise ValueError("expected two float tensors: write x.float()")
    # No arithmetic: 1j * inf would be nan + inf j.
    z = np.empty(np.broadcast_shapes(real.shape, imag.shape), np.result_type(real, np.complex64))
    z.real, z.imag = real, imag
    return z, lambda g: np.real(g), lambda g: np.imag(g)


@rule(*UNARY, sample((2, 3)), dtype="as is", view=True, numpy=np.real, stack=elementwise)
def real(x):
    return x.real, lambda g: g


@rule(*UNARY, dtype="as is", view=True, numpy=np.imag, stack=elementwise)
def imag(x):
    check_complex(x, "the imaginary part of real numbers is zeros_like(x)")
    return x.imag, lambda g: g * 1j


@rule(*UNARY, dtype="as is", numpy=(np.conj, np.conjugate), stack=elementwise)
def conj(x):
    return np.conj(x), lambda g: np.conj(g)


@rule(*UNARY, sample((2, 3)), sample((0,)), dtype="float", numpy=np.angle, stack=elementwise)
def angle(x):
    """The angle of a complex number, 0 or pi of a real one; the derivative at 0 is 0."""
    y = np.angle(x)

    def vjp(g):
        if not is_complex(x):
            return np.zeros_like(g)
        length = np.abs(x)
        over = np.where(length == 0, 1, length)
        return (g / over) * (x / over) * 1j

    # numpy has 0 for nan, of a real number.
    return (y if is_complex(x) else np.where(x != x, x, y).astype(x.dtype)), vjp


@rule(*UNARY, sample((2, 3)), dtype="promote", numpy=np.sign, stack=elementwise)
def sgn(x):
    """z / |z|, and 0 of 0; of a real number its sign."""

    def vjp(g):
        if not is_complex(x):
            return np.zeros_like(g)
        # What of g lies along z changes the length alone, which is 1 again.
        length = np.abs(x)
        over = np.where(length == 0, 1, length)
        unit = x / over
        return np.where(length == 0, 0, (g - np.real(g * np.conj(unit)) * unit) / over)

    return x.copy() if x.dtype.kind == "b" else np.sign(x), vjp


def last_stays(function, arrays, stacked, settings):
    """On a stack as it stands: what is done is done to the last dimension, or adds one there."""
    return function(*arrays, **settings)


@rule(*UNARY[:2], dtype="as is", view=True, stack=last_stays)
def view_as_real(x):
    """A view with one dimension more, the last one: the real and the imaginary part."""
    check_complex(x, "write torch.complex(x, zeros_like(x)) first")
    # Of a single element numpy asks for no stride, so that any layout can be viewed.
    return x[..., None].view(x.real.dtype), lambda g: complex(g[..., 0], g[..., 1])


@rule(sample((2, 3, 2)), sample((2,)), dtype="as is", view=True, stack=last_stays)
def view_as_complex(x):
    """A view of pairs, the last dimension, as complex numbers; a copy where memory has no pairs side by side."""
    if x.dtype.kind != "f" or not x.ndim or x.shape[-1] != 2:
        raise ValueError("expected a float tensor whose last dimension, of length 2, is the real and imaginary part")
    if x.strides[-1] == x.itemsize and not any(stride % (2 * x.itemsize) for stride in x.strides[:-1]):
        z = x.view(np.result_type(x, np.complex64))[..., 0]
    else:
        z = complex(x[..., 0], x[..., 1])
    return z, lambda g: view_as_real(g)
