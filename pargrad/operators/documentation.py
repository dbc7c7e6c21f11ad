"""What the operators say of themselves: the docstrings and signatures that no function is written for.

A function made from a rule has the rule's docstring or, where the rule is its own explanation, a formula from here;
to that comes what the table knows. What has torch's name ends with PyTorch's page of it, where there is one.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, Signature, cleandoc
from typing import Any

from pargrad.rules.table import Rule

PAGES = "https://docs.pytorch.org/docs/stable/generated/torch."
# Names whose pages have another name, and names that torch has and describes on no page.
OTHER_PAGES = {
    **{name: f"nn.functional.{name}" for name in ("log_softmax", "relu", "relu_", "scaled_dot_product_attention")},
    **{name: f"Tensor.{name}" for name in
       ("expand", "index_fill", "index_put", "masked_fill", "masked_scatter", "nonzero_static")},
    "channel_shuffle": "nn.ChannelShuffle", "nn.functional.channel_shuffle": "nn.ChannelShuffle",
    "nn.Buffer": "nn.parameter.Buffer", "nn.Flatten": "nn.modules.flatten.Flatten",
    "nn.Unflatten": "nn.modules.flatten.Unflatten",
}  # fmt: skip
WITHOUT_A_PAGE = {
    "GradScaler", "Size", "as_strided_scatter", "autocast", "binomial", "celu_", "clamp_max", "clamp_max_", "clamp_min",
    "clamp_min_", "deg2rad_", "exp2_", "fill", "from_torch", "put", "rad2deg_", "rsub", "scalar_tensor", "selu_",
    "split_with_sizes", "to_dlpack", "to_torch", "typename", "unsafe_chunk", "unsafe_split", "unsafe_split_with_sizes",
    "nn.RNNCellBase", "nn.functional.celu_", "nn.functional.selu_",
}  # fmt: skip

MEANINGS = {
    "mul": "input * other", "pow": "input ** exponent", "neg": "-input", "square": "input * input",
    "reciprocal": "1 / input",
    "floor_divide": "input / other, rounded down", "remainder": "input - other * floor(input / other), of other's sign",
    "fmod": "input - other * trunc(input / other), of input's sign",
    "exp": "e ** input", "exp2": "2 ** input", "expm1": "e ** input - 1, with its digits where that is near 0",
    "log": "The natural logarithm", "log2": "The logarithm to base 2", "log10": "The logarithm to base 10",
    "log1p": "log(1 + input), with its digits where input is near 0",
    "logaddexp": "log(exp(input) + exp(other)), without overflow",
    "logaddexp2": "log2(2 ** input + 2 ** other), without overflow",
    "sqrt": "The square root", "rsqrt": "1 / sqrt(input)", "hypot": "sqrt(input ** 2 + other ** 2), without overflow",
    "sin": "The sine of an angle in radians", "cos": "The cosine of an angle in radians",
    "tan": "The tangent of an angle in radians", "asin": "The angle from -pi/2 to pi/2 whose sine this is",
    "acos": "The angle from 0 to pi whose cosine this is", "atan": "The angle from -pi/2 to pi/2 whose tangent this is",
    "sinh": "The hyperbolic sine", "cosh": "The hyperbolic cosine", "tanh": "The hyperbolic tangent",
    "asinh": "The inverse of sinh", "acosh": "The inverse of cosh, of 1 or more",
    "atanh": "The inverse of tanh, between -1 and 1",
    "deg2rad": "An angle in degrees, in radians", "rad2deg": "An angle in radians, in degrees",
    "sigmoid": "1 / (1 + exp(-input))", "relu": "max(input, 0), with the derivative 0 at 0",
    "abs": "The absolute value, with the derivative 0 at 0",
    "addcmul": "input + value * tensor1 * tensor2", "addcdiv": "input + value * tensor1 / tensor2",
    "maximum": "The greater of two; equal ones share the gradient, and nan is passed on",
    "minimum": "The smaller of two; equal ones share the gradient, and nan is passed on",
    "nextafter": "The floating-point number next to input towards other",
    "erf": "The error function", "erfc": "1 - erf(input), with its digits where that is near 0",
    "erfinv": "The inverse of erf, between -1 and 1",
    "i0": "The modified Bessel function of the first kind, of order 0",
    "i1": "The modified Bessel function of the first kind, of order 1",
    "bessel_j0": "The Bessel function of the first kind, of order 0",
    "bessel_j1": "The Bessel function of the first kind, of order 1",
    "bessel_y0": "The Bessel function of the second kind, of order 0",
    "bessel_y1": "The Bessel function of the second kind, of order 1",
    "modified_bessel_k0": "The modified Bessel function of the second kind, of order 0",
    "modified_bessel_k1": "The modified Bessel function of the second kind, of order 1",
    "eq": "input == other", "ne": "input != other", "lt": "input < other", "le": "input <= other",
    "gt": "input > other", "ge": "input >= other",
    "bitwise_and": "input & other, of booleans or integers", "bitwise_or": "input | other, of booleans or integers",
    "bitwise_xor": "input ^ other, of booleans or integers", "bitwise_not": "~input, of booleans or integers",
    "bitwise_left_shift": "input << other, of integers", "bitwise_right_shift": "input >> other, of integers",
    "logical_and": "Whether neither is 0", "logical_or": "Whether one of the two, or both, is not 0",
    "logical_xor": "Whether just one of the two is not 0", "logical_not": "Whether it is 0",
    "isnan": "Whether it is nan", "isinf": "Whether it is inf or -inf",
    "isfinite": "Whether it is neither nan nor infinite", "isposinf": "Whether it is inf",
    "isneginf": "Whether it is -inf", "signbit": "Whether the sign is minus, as of -0.0",
    "floor": "The next integer below", "ceil": "The next integer above", "trunc": "The next integer towards 0",
    "frac": "input - trunc(input)", "positive": "The tensor itself",
    "gcd": "The greatest common divisor", "lcm": "The least common multiple",
    "matmul": "The matrix product of (..., n, k) and (..., k, m), as `@`: (..., n, m), with broadcasting.\n\n"
    "A vector is a row on the left and a column on the right, and that dimension is left out of the product",
    "softmax": "exp(input) over its sum along `dim`", "log_softmax": "log(softmax(input, dim)), without underflow",
    "reshape": "The same elements in another shape, in which -1 is what is left over; a view where it can be",
    "permute": "A view with the dimensions in the order `dims`",
    "stack": "Tensors of one shape along a new dimension `dim`",
    "squeeze": "A view without the dimensions of length 1, or without those of `dim` that are",
    "unsqueeze": "A view with one more dimension, of length 1, at `dim`",
    "expand": "A view in which dimensions of length 1 are repeated to `size`; -1 keeps a dimension",
    "clone": "A copy, through which gradients flow",
    "tril": "The lower triangle of matrices (..., n, m), up to diagonal number `diagonal`, and 0 elsewhere",
    "triu": "The upper triangle of matrices (..., n, m), from diagonal number `diagonal` on, and 0 elsewhere",
    "diagonal": "A view of the diagonals of the planes of dim1 and dim2, as the last dimension",
    "diag_embed": "Zeros with the last dimension as the diagonals of the planes of dim1 and dim2",
    "sum": "The sum of all elements, or along `dim`, a number or several",
    "mean": "The mean of all elements, or along `dim`, a number or several",
    "amax": "The greatest of all elements, or along `dim`; equal ones share the gradient",
    "amin": "The least of all elements, or along `dim`; equal ones share the gradient",
    "argmax": "Where the greatest element is: in the flattened tensor, or along `dim`; of equal ones the first",
    "argmin": "Where the least element is: in the flattened tensor, or along `dim`; of equal ones the first",
    "all": "Whether no element is 0, of all or along `dim`",
    "any": "Whether an element is not 0, of all or along `dim`",
    "logsumexp": "log(sum(exp(input))) along `dim`, without overflow",
    "cumsum": "The sum so far along `dim`", "cumprod": "The product so far along `dim`",
    "logcumsumexp": "log(cumsum(exp(input))) along `dim`, without overflow",
}  # fmt: skip

# Of methods that are written in one line, where nothing else could say it.
METHODS = {
    "reshape": "reshape, of a size in one argument or in several: x.reshape(2, -1).",
    "permute": "permute, of dims in one argument or in several: x.permute(0, 2, 1).",
    "expand": "expand, to a size in one argument or in several: x.expand(3, -1).",
    "where": "The elements at which the condition is True, and those of `other` elsewhere.",
    "astype": "numpy's name of `to(dtype)`.",
    "view_as": "A view in the shape of another tensor.",
    "half": "As float16.", "float": "As float32.", "double": "As float64.", "cfloat": "As complex64.",
    "cdouble": "As complex128.", "byte": "As uint8.", "char": "As int8.", "short": "As int16.", "int": "As int32.",
    "long": "As int64.", "bool": "As booleans: False for 0.",
    "element_size": "The bytes of an element.", "itemsize": "The bytes of an element.",
    "nbytes": "The bytes of all elements.", "is_same_size": "Whether another tensor has the same shape.",
    "is_signed": "Whether the dtype has negative numbers.", "is_nonzero": "Whether the only element is not 0.",
    "is_inference": "Whether it was computed in `inference_mode`.", "get_device": "-1, torch's number of the CPU.",
    "is_pinned": "False: there is no memory for other devices.", "is_shared": "False: its memory is its process's.",
}  # fmt: skip

# How an argument comes to its dtype, and what is refused: the rule's `dtype`.
DTYPES = {
    "float": "Integers become the default float.",
    "floating": "Integers are refused: RuntimeError.",
    "match": "Tensors of different dtypes are refused: RuntimeError.",
}
TORCH_NAMES = {"x": "input", "y": "other", ("pow", "y"): "exponent"}


def torch_name(rule: Rule, argument: str) -> str:
    return TORCH_NAMES.get((rule.name, argument)) or TORCH_NAMES.get(argument, argument)


def signature(rule: Rule) -> Signature:
    """What a rule takes, by torch's names: its arguments, then its settings, all by position or by name."""
    defaults = rule.function.__kwdefaults__ or {}
    kind = Parameter.POSITIONAL_OR_KEYWORD
    arguments = [Parameter(torch_name(rule, name), kind) for name in rule.arguments]
    settings = [Parameter(name, kind, default=defaults.get(name, Parameter.empty)) for name in rule.settings]
    return Signature([*arguments, *settings], __validate_parameters__=False)


def with_keyword(function: Callable[..., Any], name: str) -> Signature:
    """The signature of an operator that takes one more, by name alone."""
    taken = Signature.from_callable(function)
    return taken.replace(parameters=[*taken.parameters.values(), Parameter(name, Parameter.KEYWORD_ONLY, default=None)])


def describe(rule: Rule) -> str:
    """The docstring of the function of a rule."""
    elementwise = getattr(rule.stack, "__name__", "") == "elementwise" and not rule.view
    facts = [
        "Elementwise; shapes broadcast." if elementwise and len(rule.arguments) > 1 else "",
        "Elementwise." if elementwise and len(rule.arguments) == 1 else "",
        DTYPES.get(rule.dtype, ""),
        "It has no derivative." if not rule.differentiable else "",
    ]
    told = " ".join(filter(None, facts))
    meaning = rule.function.__doc__ or MEANINGS.get(rule.name, f"The rule {rule.name}") + "."
    return f"{cleandoc(meaning)}\n\n{told}" if told else cleandoc(meaning)


def describe_methods(methods: dict[str, Any]) -> None:
    """Gives those of Tensor's methods that have none the docstrings of the table."""
    for name in methods.keys() & METHODS.keys():
        methods[name].__doc__ = METHODS[name]


def has_a_page(path: str) -> bool:
    """Whether torch describes a name of its own, such as "nn.Linear", on a page of that name."""
    copies = path.endswith("_copy") and path not in ("index_copy", "narrow_copy")
    return not (path in WITHOUT_A_PAGE or copies or path.endswith("Tensor"))


def add_pages(place: str, named: dict[str, Any]) -> None:
    """Puts torch's page behind the docstrings of functions and classes that name none; place: "nn.", or ""."""
    for name, value in named.items():
        path, told = place + name, getattr(value, "__doc__", None) or ""
        ours = callable(value) and getattr(value, "__module__", "").startswith("pargrad")
        if ours and "https://" not in told and has_a_page(path):
            page = OTHER_PAGES.get(path) or ("" if place or not name.endswith("_") else "Tensor.") + path
            value.__doc__ = f"{cleandoc(told)}\n\n{PAGES}{page}.html"
