"""pargrad, torch, HIPS autograd and MyGrad under the same few names, so that one loss is written for all of them.

A library has `functions`, which losses are made of, and ways to make a step: a function without arguments that does
forward and backward and returns what it found, each time anew. `arrays` makes numpy arrays of that, untimed.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable
from importlib import metadata
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

Step = Callable[[], Any]


class TorchLike:
    """pargrad or torch: what differs between them is the import."""

    def __init__(self, module: ModuleType):
        functional = module.nn.functional
        self.module = module
        self.functions = SimpleNamespace(
            tanh=module.tanh,
            exp=module.exp,
            relu=module.relu,
            softmax=lambda x: module.softmax(x, -1),
            log_softmax=lambda x: module.log_softmax(x, -1),
            layer_norm=lambda x, weight, bias: functional.layer_norm(x, weight.shape, weight, bias),
            linear=functional.linear,
            cross_entropy=functional.cross_entropy,
            conv2d=functional.conv2d,
            max_pool2d=functional.max_pool2d,
            flatten=lambda x: x.reshape(len(x), -1),
            embedding=functional.embedding,
        )

    def gradient(self, loss: Callable, inputs: list, constants: list) -> Step:
        """backward() into `.grad`."""
        tensors = [self.module.tensor(x, requires_grad=True) for x in inputs]
        others = list(map(self.module.tensor, constants))

        def step() -> Any:
            for x in tensors:
                x.grad = None
            value = loss(self.functions, *tensors, *others)
            value.backward()
            return value, *(x.grad for x in tensors)

        return step

    def hessian_vector_product(self, loss: Callable, inputs: list, constants: list) -> Step:
        """The Hessian times `inputs` themselves, by a gradient of the gradient."""
        tensors = [self.module.tensor(x, requires_grad=True) for x in inputs]
        along = list(map(self.module.tensor, inputs))
        others = list(map(self.module.tensor, constants))
        grad = self.module.autograd.grad

        def step() -> Any:
            first = grad(loss(self.functions, *tensors, *others), tensors, create_graph=True)
            return grad(first, tensors, along)

        return step

    def gradient_of_each_example(self, loss: Callable, inputs: list, constants: list) -> Step:
        """vmap of grad: the constants have an example in each row."""
        tensors = list(map(self.module.tensor, inputs))
        others = list(map(self.module.tensor, constants))
        places = tuple(range(len(tensors)))
        one = self.module.func.grad(lambda *given: loss(self.functions, *given), argnums=places)
        dims = tuple(None if place in places else 0 for place in range(len(tensors) + len(others)))
        each = self.module.func.vmap(one, in_dims=dims)
        return lambda: each(*tensors, *others)

    @staticmethod
    def arrays(found: Any) -> list[np.ndarray]:
        return [x.detach().numpy() for x in found]


class HipsAutograd:
    """HIPS autograd, in which the functions of a network are compositions of numpy's."""

    def __init__(self) -> None:
        import autograd
        import autograd.numpy as anp
        from autograd.scipy.signal import convolve
        from autograd.scipy.special import logsumexp

        def log_softmax(x: Any) -> Any:
            return x - logsumexp(x, axis=-1, keepdims=True)

        def layer_norm(x: Any, weight: Any, bias: Any) -> Any:
            centered = x - anp.mean(x, axis=-1, keepdims=True)
            variance = anp.mean(centered * centered, axis=-1, keepdims=True)
            return centered / anp.sqrt(variance + 1e-5) * weight + bias

        def conv2d(x: Any, weight: Any, bias: Any) -> Any:
            planes, channels = ([2, 3], [2, 3]), ([1], [1])
            flipped = weight[:, :, ::-1, ::-1]  # a convolution, where networks have a correlation
            return convolve(x, flipped, axes=planes, dot_axes=channels, mode="valid") + anp.reshape(bias, (-1, 1, 1))

        def max_pool2d(x: Any, size: int) -> Any:
            *batch, height, width = x.shape
            return anp.max(anp.reshape(x, (*batch, height // size, size, width // size, size)), axis=(-1, -3))

        self.autograd = autograd
        self.functions = SimpleNamespace(
            tanh=anp.tanh,
            exp=anp.exp,
            relu=lambda x: anp.maximum(x, 0),
            softmax=lambda x: anp.exp(log_softmax(x)),
            log_softmax=log_softmax,
            layer_norm=layer_norm,
            linear=lambda x, weight, bias: anp.dot(x, weight.T) + bias,
            cross_entropy=lambda x, target: -anp.mean(log_softmax(x)[np.arange(len(target)), target]),
            conv2d=conv2d,
            max_pool2d=max_pool2d,
            flatten=lambda x: anp.reshape(x, (len(x), -1)),
            embedding=lambda index, weight: weight[index],
        )

    def gradient(self, loss: Callable, inputs: list, constants: list) -> Step:
        # By one argument, a list of all: its gradient is a list, too.
        both = self.autograd.value_and_grad(lambda tensors: loss(self.functions, *tensors, *constants))

        def step() -> Any:
            value, gradients = both(inputs)
            return value, *gradients

        return step

    def hessian_vector_product(self, loss: Callable, inputs: list, constants: list) -> Step:
        product = self.autograd.make_hvp(lambda tensors: loss(self.functions, *tensors, *constants))
        return lambda: product(inputs)[0](inputs)

    @staticmethod
    def arrays(found: Any) -> list[np.ndarray]:
        return list(map(np.asarray, found))


class MyGrad:
    """MyGrad, with the layers that it brings; it has no second derivatives."""

    def __init__(self) -> None:
        import mygrad
        from mygrad.nnet import activations, layers, losses

        def layer_norm(x: Any, weight: Any, bias: Any) -> Any:
            centered = x - x.mean(axis=-1, keepdims=True)
            variance = (centered * centered).mean(axis=-1, keepdims=True)
            return centered / mygrad.sqrt(variance + 1e-5) * weight + bias

        self.mygrad = mygrad
        self.functions = SimpleNamespace(
            tanh=mygrad.tanh,
            exp=mygrad.exp,
            relu=activations.relu,
            softmax=activations.softmax,
            log_softmax=activations.logsoftmax,
            layer_norm=layer_norm,
            linear=lambda x, weight, bias: x @ weight.T + bias,
            cross_entropy=losses.softmax_crossentropy,
            conv2d=lambda x, weight, bias: layers.conv_nd(x, weight, stride=1) + bias.reshape(-1, 1, 1),
            max_pool2d=lambda x, size: layers.max_pool(x, (size, size), size),
            flatten=lambda x: x.reshape(len(x), -1),
            embedding=lambda index, weight: weight[index],
        )

    def gradient(self, loss: Callable, inputs: list, constants: list) -> Step:
        tensors = list(map(self.mygrad.tensor, inputs))

        def step() -> Any:
            for x in tensors:
                x.null_grad()
            value = loss(self.functions, *tensors, *constants)
            value.backward()
            return value, *(x.grad for x in tensors)

        return step

    @staticmethod
    def arrays(found: Any) -> list[np.ndarray]:
        return [np.asarray(x.data if hasattr(x, "null_grad") else x) for x in found]


def pargrad_library() -> TorchLike:
    import pargrad

    return TorchLike(pargrad)


def torch_library() -> TorchLike:
    import torch

    torch.set_num_threads(1)
    return TorchLike(torch)


LIBRARIES: dict[str, Callable[[], Any]] = {
    "pargrad": pargrad_library,
    "torch": torch_library,
    "autograd": HipsAutograd,
    "mygrad": MyGrad,
}


def installed() -> list[str]:
    """The names of the libraries that this Python has."""
    return [name for name in LIBRARIES if importlib.util.find_spec(name) is not None]


def version(name: str) -> str:
    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.version(name)
    return "not installed"
