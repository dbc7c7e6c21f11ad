"""The rules of rules/convolution.py and rules/pooling.py, in torch."""

import math

import torch
import torch.nn.functional as F


def settings(windows):
    return {"stride": windows.stride, "padding": windows.before, "dilation": windows.dilation}


def by_dims(name, windows):
    return getattr(F, f"{name}{len(windows.sizes)}d")


def convolution(x, weight, windows, groups=1):
    return by_dims("conv", windows)(x, weight, **settings(windows), groups=groups)


def max_pool(x, windows):
    return by_dims("max_pool", windows)(x, windows.kernel, **settings(windows))


def im2col(x, windows):
    """One dimension after the other: (..., *sizes) becomes (..., *kernel, *counts)."""
    dims = len(windows.sizes)
    for axis, (kernel, count, stride, before, dilation) in enumerate(zip(*windows[1:])):
        places = torch.arange(kernel)[:, None] * dilation + torch.arange(count) * stride
        line = x.movedim(x.ndim - 2 * axis - dims + axis, -1) if axis else x.movedim(x.ndim - dims, -1)
        after = int(places.max()) + 1 - before - line.shape[-1]
        x = F.pad(line, (before, after))[..., places]
    order = [*range(x.ndim - 2 * dims), *range(x.ndim - 2 * dims, x.ndim, 2), *range(x.ndim - 2 * dims + 1, x.ndim, 2)]
    return x.permute(order)


def transposed(function, g, shape):
    """What a linear function's vjp gives of g, itself differentiable."""
    zeros = torch.zeros(shape, dtype=g.dtype, requires_grad=True)
    return torch.autograd.grad(function(zeros), zeros, g, create_graph=True)[0]


def col2im(x, windows):
    lead = x.shape[: x.ndim - 2 * len(windows.sizes)]
    return transposed(lambda image: im2col(image, windows), x, (*lead, *windows.sizes))


def to_taps(x, number, windows):
    dims = len(windows.sizes)
    lead = x.shape[: x.ndim - dims]

    def at_taps(image):
        columns = im2col(image, windows).reshape(*lead, math.prod(windows.kernel), *windows.counts)
        return columns.gather(len(lead), torch.as_tensor(number).unsqueeze(len(lead))).squeeze(len(lead))

    return transposed(at_taps, x, (*lead, *windows.sizes))


def convolution_input(y, weight, windows, groups=1):
    usual = [
        (count - 1) * s - 2 * p + d * (k - 1) + 1
        for count, k, s, p, d in zip(windows.counts, windows.kernel, windows.stride, windows.before, windows.dilation)
    ]
    more = [size - n for size, n in zip(windows.sizes, usual)]
    transpose = by_dims("conv_transpose", windows)
    return transpose(y, weight, **settings(windows), output_padding=more, groups=groups)


def convolution_weight(x, y, windows, groups=1):
    places, taps = math.prod(windows.counts), x.shape[1] // groups * math.prod(windows.kernel)
    columns = im2col(x, windows).reshape(len(x), groups, taps, places)
    given = y.reshape(len(y), groups, y.shape[1] // groups, places)
    product = torch.einsum("ngtp,ngrp->grt", columns, given)
    return product.reshape(y.shape[1], x.shape[1] // groups, *windows.kernel)


def resample(x, dim, index, weight):
    terms = x.movedim(dim, -1)[..., torch.tensor(index)] * torch.tensor(weight, dtype=x.dtype)
    return terms.sum(-1).movedim(-1, dim)


TWINS = {
    "add_bias": lambda x, bias: x + bias.reshape(-1, *(1,) * (x.ndim - 2)),
    "col2im": col2im,
    "constant_pad": lambda x, pad, value=0: F.pad(x, [n for pair in pad[::-1] for n in pair], value=value),
    "convolution": convolution,
    "convolution_input": convolution_input,
    "convolution_weight": convolution_weight,
    "im2col": im2col,
    "max_pool": max_pool,
    "resample": resample,
    "to_taps": to_taps,
}
