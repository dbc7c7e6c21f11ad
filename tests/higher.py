"""Second derivatives, in pargrad and torch alike, for the tests that compare them."""

import numpy as np

import pargrad
from pargrad import autograd
from tests.checks import can_require_grad, listed, weights


def second_gradients(library, function, arrays):
    """The gradients, by each float array, of the first gradients; values and gradients are sent `weights`.

    What has no graph, in whichever library, is 0.
    """
    tensors = [library.tensor(x, requires_grad=can_require_grad(x)) if isinstance(x, np.ndarray) else x for x in arrays]
    leaves = [x for x, array in zip(tensors, arrays) if can_require_grad(array)]
    grad = autograd.grad if library is pargrad else library.autograd.grad

    def gradients(values, **named):
        values = [value for value in values if value is not None and value.requires_grad]
        if not values:
            return [None] * len(leaves)
        seeds = [library.tensor(weights(tuple(value.shape), value.detach().numpy().dtype)) for value in values]
        return grad(values, leaves, seeds, allow_unused=True, **named)

    found = gradients(gradients(listed(function(*tensors)), create_graph=True))
    return [np.zeros(tuple(x.shape)) if g is None else g.detach().clone().numpy() for x, g in zip(leaves, found)]


def assert_as_finite(got, expected, tolerance):
    """Lists of arrays agree wherever the other library has a number; where it has none, there may be one."""
    for one, other in zip(got, expected, strict=True):
        assert one.shape == other.shape
        finite = np.isfinite(other)
        np.testing.assert_allclose(one[finite], other[finite], rtol=tolerance, atol=tolerance)
