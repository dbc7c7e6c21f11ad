"""Rows of layers, each a layer of torch.nn's name, how it is made, and what it is called with; tests walk them."""

from typing import Any, NamedTuple

import numpy as np


class Leaf(NamedTuple):
    """An array that gets a gradient."""

    array: np.ndarray


class Row(NamedTuple):
    """Arrays among the arguments become tensors. on: arrays, or shapes of normal numbers, which get a gradient."""

    name: str
    arguments: tuple
    named: dict[str, Any]
    on: list[Any]
    training: bool = True

    def __str__(self):
        told = [*map(brief, self.arguments), *(f"{name}={brief(value)}" for name, value in self.named.items())]
        mode = "" if self.training else " in evaluation"
        return f"{self.name}({', '.join(told)}) on {' and '.join(map(brief, self.on))}{mode}"

    def made(self, library):
        """The layer, in pargrad or torch."""
        convert = {name: as_tensor(library, value) for name, value in self.named.items()}
        module = getattr(library.nn, self.name)(*(as_tensor(library, value) for value in self.arguments), **convert)
        return module.train(self.training)

    def inputs(self, library, dtype):
        """What it is called with: the same numbers in both libraries."""
        random, found = np.random.default_rng(len(str(self))), []
        for each in self.on:
            if isinstance(each, tuple):
                array = each.array if isinstance(each, Leaf) else random.normal(size=each)
                found.append(library.tensor(np.asarray(array, dtype), requires_grad=True))
            else:
                array = each.astype(dtype) if isinstance(each, np.ndarray) and each.dtype.kind == "f" else each
                found.append(as_tensor(library, array))
        return found


def brief(value):
    if isinstance(value, Leaf):
        return brief(value.array)
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{list(value.shape)}"
    return getattr(value, "__name__", None) or repr(value)


def as_tensor(library, value):
    return library.tensor(value) if isinstance(value, np.ndarray) else value


def row(layer, *arguments, on=(), training=True, **named):
    return Row(layer, arguments, named, on if isinstance(on, list) else [on], training)


def whole(*numbers):
    return np.array(numbers)


def between(*shape):
    """Numbers from 0 to 1, without the ends."""
    return np.random.default_rng(5).uniform(0.05, 0.95, shape)


def signs(*shape):
    return np.where(np.random.default_rng(6).uniform(size=shape) < 0.5, -1.0, 1.0)


# ----- linear, tables, two inputs -----

LINEAR = [
    *(row("Linear", 3, 2, bias=bias, on=on) for bias in (True, False) for on in [(3,), (5, 3), (2, 4, 3), (0, 3)]),
    row("Bilinear", 2, 3, 4, on=[(5, 2), (5, 3)]),
    row("Bilinear", 2, 3, 4, bias=False, on=[(2, 5, 2), (2, 5, 3)]),
    row("Identity", 54, unused=1, on=(2, 3)),
    row("Embedding", 5, 3, on=[whole([0, 4], [1, 1])]),
    row("Embedding", 5, 3, 2, on=[whole(2, 1, 2)]),
    row("Embedding", 5, 3, padding_idx=-1, scale_grad_by_freq=True, on=[whole(4, 1, 1)]),
    row("Embedding", 5, 3, max_norm=1.0, on=[whole(0, 3, 3)]),
    row("Embedding", 5, 3, max_norm=1.0, norm_type=1.0, on=[whole(0, 3, 3)]),
    *(row("EmbeddingBag", 6, 3, mode=mode, on=[whole([0, 4, 1], [1, 1, 5])]) for mode in ("sum", "mean", "max")),
    row("EmbeddingBag", 6, 3, on=[whole(0, 4, 1, 1, 5), whole(0, 2, 2)]),
    row("EmbeddingBag", 6, 3, include_last_offset=True, on=[whole(0, 4, 1, 1, 5), whole(0, 2, 5)]),
    row("EmbeddingBag", 6, 3, padding_idx=1, max_norm=1.0, norm_type=3.0, on=[whole([0, 4, 1], [1, 1, 5])]),
    row("EmbeddingBag", 6, 3, mode="sum", on=[whole(0, 4, 1), whole(0, 1), (3,)]),
    # Where rows are there in different numbers, torch divides by those of others. Here all of them are there twice.
    row("EmbeddingBag", 6, 3, scale_grad_by_freq=True, on=[whole([0, 4, 1], [1, 4, 0])]),
    row("CosineSimilarity", on=[(4, 3), (4, 3)]),
    row("CosineSimilarity", dim=0, eps=1e-3, on=[(4, 3), (4, 3)]),
    row("PairwiseDistance", on=[(4, 3), (4, 3)]),
    row("PairwiseDistance", 1.5, 1e-3, keepdim=True, on=[(4, 3), (4, 3)]),
]

# ----- shapes -----

SHAPES = [
    row("Flatten", on=(2, 3, 4)),
    row("Flatten", 0, on=(2, 3, 4)),
    row("Flatten", 0, on=()),
    row("Flatten", 1, 2, on=(2, 3, 4, 5)),
    row("Flatten", start_dim=-2, on=(2, 3, 4)),
    row("Unflatten", 1, (2, 3), on=(2, 6)),
    row("Unflatten", -1, (2, -1), on=(2, 4, 6)),
    row("Unfold", 2, on=(2, 3, 4, 5)),
    row("Unfold", (2, 3), dilation=(1, 2), padding=(1, 2), stride=2, on=(2, 3, 4, 5)),
    row("Fold", (4, 5), (2, 3), on=(2, 12, 9)),
    row("Fold", (4, 5), 2, 1, 1, (2, 3), on=(8, 6)),
    row("PixelShuffle", 2, on=(2, 8, 3, 2)),
    row("PixelUnshuffle", 2, on=(2, 3, 4, 6)),
    row("ChannelShuffle", 2, on=(2, 6, 3)),
    *(
        row(f"{kind}Pad{dims}d", amount, on=(*batch, 2, 3, 4, 5)[-dims - 1 - len(batch) :])
        for kind in ("Reflection", "Replication", "Circular")
        for dims in (1, 2, 3)
        for amount, batch in [(1, (2,)), ((1, 2, 1, 0, 1, 1)[: 2 * dims], ())]
    ),
    *(
        row(f"ZeroPad{dims}d", amount, on=(2, 3, 4, 5, 6)[: dims + 2])
        for dims in (1, 2, 3)
        for amount in (2, (1, 2, -1, 3, 0, 1)[: 2 * dims])
    ),
    *(
        row(f"ConstantPad{dims}d", amount, 3.5, on=(2, 3, 4, 5, 6)[: dims + 2])
        for dims in (1, 2, 3)
        for amount in (2, (1, 2, -1, 3, 0, 1)[: 2 * dims])
    ),
    row("Upsample", scale_factor=2, on=(2, 3, 4)),
    row("Upsample", size=(5, 7), on=(2, 3, 4, 3)),
    row("Upsample", scale_factor=(1.5, 2), mode="bilinear", align_corners=True, on=(2, 3, 4, 3)),
    row("Upsample", scale_factor=1.7, mode="bicubic", recompute_scale_factor=True, on=(2, 3, 4, 3)),
    row("Upsample", scale_factor=2, mode="trilinear", align_corners=False, on=(2, 3, 2, 3, 2)),
    row("Upsample", 7, mode="linear", on=(2, 3, 4)),
    row("UpsamplingNearest2d", scale_factor=2, on=(2, 3, 4, 3)),
    row("UpsamplingNearest2d", (5, 4), on=(2, 3, 4, 3)),
    row("UpsamplingBilinear2d", scale_factor=2, on=(2, 3, 4, 3)),
    row("UpsamplingBilinear2d", size=7, on=(2, 3, 4, 3)),
]

# ----- convolutions and poolings -----

SIZES = (7, 6, 5)


def image(dims, channels=4, batch=(2,)):
    return (*batch, channels, *SIZES[:dims])


CONVOLUTIONS = [
    *(
        row(f"Conv{dims}d", 4, 6, *arguments, on=image(dims), **named)
        for dims in (1, 2, 3)
        for arguments, named in [
            ((3,), {}),
            ((2, 2, 1), {"bias": False}),
            ((3,), {"padding": "same", "dilation": 2, "groups": 2}),
            ((2,), {"padding": "valid"}),
            *(((3, 2, 2), {"padding_mode": mode}) for mode in ("reflect", "replicate", "circular")),
            ((4,), {"padding": "same", "padding_mode": "circular"}),
        ]
    ),
    row("Conv1d", 4, 2, 3, on=image(1, batch=())),
    row("Conv2d", 4, 8, (3, 2), (2, 1), (1, 0), (1, 2), 4, on=image(2)),
    row("Conv2d", 4, 2, (3, 2), padding=(2, 1), padding_mode="reflect", on=image(2)),
    row("Conv3d", 4, 2, (3, 2, 1), stride=(1, 2, 3), padding=(0, 1, 2), on=image(3, batch=())),
    *(
        row(f"ConvTranspose{dims}d", 4, 6, *arguments, on=image(dims), **named)
        for dims in (1, 2, 3)
        for arguments, named in [
            ((3,), {}),
            ((3, 2, 1, 1), {"bias": False}),
            ((2, 2), {"groups": 2, "dilation": 2}),
        ]
    ),
    row("ConvTranspose2d", 4, 2, (3, 2), (2, 3), (1, 0), (1, 2), 2, True, (2, 1), on=image(2, batch=())),
    row("ConvTranspose1d", 4, 2, 3, 2, on=[image(1), [16]]),
    row("ConvTranspose2d", 4, 2, 3, 2, padding=1, on=[image(2), [2, 2, 14, 11]]),
]

POOLINGS = [
    *(
        row(f"MaxPool{dims}d", *arguments, on=image(dims), **named)
        for dims in (1, 2, 3)
        for arguments, named in [
            ((2,), {}),
            ((3, 2, 1), {}),
            ((3, 1), {"dilation": 2}),
            ((2, 3), {"ceil_mode": True, "return_indices": True}),
        ]
    ),
    row("MaxPool2d", (3, 2), (2, 1), (1, 0), on=image(2, batch=())),
    *(
        row(f"AvgPool{dims}d", *arguments, on=image(dims), **named)
        for dims in (1, 2, 3)
        for arguments, named in [
            ((2,), {}),
            ((3, 2, 1), {}),
            ((3, 2, 1), {"count_include_pad": False, "ceil_mode": True}),
            *([((2,), {"divisor_override": 3})] if dims > 1 else []),
        ]
    ),
    row("AvgPool3d", (3, 2, 1), (2, 1, 1), (1, 0, 0), on=image(3)),
    *(
        row(f"{kind}{dims}d", size, on=image(dims))
        for kind in ("AdaptiveAvgPool", "AdaptiveMaxPool")
        for dims in (1, 2, 3)
        for size in (1, 3, *([(3, None, 2)[:dims]] if dims > 1 else []))
    ),
    row("AdaptiveMaxPool2d", 2, return_indices=True, on=image(2)),
    *(
        row(f"LPPool{dims}d", *arguments, on=image(dims), **named)
        for dims in (1, 2, 3)
        for arguments, named in [((2, 3), {}), ((4, 2, 3), {"ceil_mode": True})]
    ),
    row("LPPool1d", 2, 2, on=[Leaf(np.array([[[0.0, 0.0, 0.0, 3.0, 1.0, 2.0]]]))]),
    row("LPPool1d", 3, 2, on=[Leaf(np.array([[[1.0, -1.0, 0.0, 0.0, 1.0, 2.0]]]))]),
    *(
        row(f"MaxUnpool{dims}d", *arguments, on=[(2, 3, *[2] * dims), indices])
        for dims in (1, 2, 3)
        for arguments in [(2,), (2, 2, 0)]
        for indices in [
            np.argsort(np.random.default_rng(3).normal(size=(2, 3, 4**dims)))[..., : 2**dims].reshape(2, 3, *[2] * dims)
        ]
    ),
    row("MaxUnpool2d", 2, on=[(1, 1, 2, 2), whole([[[0, 3], [9, 12]]]), [5, 5]]),
    row("FractionalMaxPool2d", 2, 3, on=image(2)),
    row("FractionalMaxPool2d", (2, 3), output_ratio=(0.5, 0.6), return_indices=True, on=image(2)),
    row("FractionalMaxPool2d", 2, 3, _random_samples=between(2, 4, 2), on=image(2)),
    row("FractionalMaxPool3d", 2, (3, 2, 2), on=image(3)),
    row("FractionalMaxPool3d", 2, output_ratio=0.5, on=image(3)),
]

# ----- normalizations and dropout -----

NORMALIZATIONS = [
    *(
        row(f"BatchNorm{dims}d", 4, on=image(dims), training=training, **named)
        for dims in (1, 2, 3)
        for training in (True, False)
        for named in [{}, {"affine": False}, {"track_running_stats": False}, {"bias": False, "eps": 1e-2}]
    ),
    row("BatchNorm1d", 4, 1e-3, 0.3, on=(6, 4)),
    row("BatchNorm1d", 4, momentum=None, on=(6, 4)),
    *(
        row("SyncBatchNorm", 4, on=on, training=training, **named)
        for on in [(6, 4), image(2)]
        for training in (True, False)
        for named in [{}, {"affine": False}, {"track_running_stats": False}, {"bias": False, "momentum": None}]
    ),
    *(
        row(f"InstanceNorm{dims}d", 4, on=image(dims), training=training, **named)
        for dims in (1, 2, 3)
        for training in (True, False)
        for named in [
            {},
            {"affine": True, "track_running_stats": True, "momentum": 0.3},
            {"affine": True, "bias": False},
        ]
    ),
    row("InstanceNorm2d", 4, on=image(2, batch=())),
    row("LayerNorm", 5, on=(2, 3, 5)),
    row("LayerNorm", [3, 5], 1e-3, bias=False, on=(2, 3, 5)),
    row("LayerNorm", (3, 5), elementwise_affine=False, on=(2, 3, 5)),
    row("GroupNorm", 2, 4, on=image(2)),
    row("GroupNorm", 4, 4, 1e-3, False, on=image(1)),
    row("GroupNorm", 1, 4, bias=False, on=(3, 4)),
    row("RMSNorm", 5, on=(2, 3, 5)),
    row("RMSNorm", [3, 5], 1e-3, on=(2, 3, 5)),
    row("RMSNorm", (3, 5), elementwise_affine=False, on=(2, 3, 5)),
    row("LocalResponseNorm", 2, on=image(2, 5)),
    row("LocalResponseNorm", 3, 0.1, 0.6, 2.0, on=image(1, 5)),
]

DROPOUTS = [
    *(
        row(name, *p, on=on, training=training)
        for name, on in [
            ("Dropout", (20, 10)),
            ("Dropout1d", (8, 4, 6)),
            ("Dropout2d", (8, 4, 3, 2)),
            ("Dropout3d", (8, 4, 3, 2, 2)),
            ("AlphaDropout", (20, 10)),
            ("FeatureAlphaDropout", (8, 4, 3, 2)),
        ]
        for p, training in [((), True), ((0.2,), True), ((0.0,), True), ((1.0,), True), ((0.3,), False)]
    ),
]

# ----- activations -----

ACTIVATIONS = [
    *(
        row(name, *arguments, on=(4, 6), **named)
        for name in [
            "CELU", "ELU", "GELU", "Hardshrink", "Hardsigmoid", "Hardswish", "Hardtanh", "LeakyReLU", "LogSigmoid",
            "Mish", "PReLU", "RReLU", "ReLU", "ReLU6", "SELU", "SiLU", "Sigmoid", "Softplus", "Softshrink", "Softsign",
            "Tanh", "Tanhshrink",
        ]
        for arguments, named in [((), {})]
    ),
    row("CELU", 0.5, on=(3, 5)),
    row("ELU", 0.5, on=(3, 5)),
    row("GELU", "tanh", on=(3, 5)),
    row("GLU", on=(3, 4)),
    row("GLU", 0, on=(4, 3)),
    row("Hardshrink", 0.2, on=(3, 5)),
    row("Hardtanh", -0.5, 0.7, on=(3, 5)),
    row("LeakyReLU", 0.3, on=(3, 5)),
    row("PReLU", 5, 0.1, on=(3, 5, 2)),
    row("RReLU", 0.2, 0.4, on=(3, 5)),
    row("RReLU", 0.2, 0.4, on=(3, 5), training=False),
    row("Softplus", 2, 1.5, on=(3, 5)),
    row("Softshrink", 0.2, on=(3, 5)),
    row("Threshold", 0.1, 2.0, on=(3, 5)),
    *(row(name, dim, on=(3, 5)) for name in ("Softmax", "Softmin", "LogSoftmax") for dim in (0, -1)),
    row("Softmax2d", on=(2, 3, 2, 2)),
    row("Softmax2d", on=(3, 2, 2)),
    row("Sigmoid", on=()),
]  # fmt: skip

IN_PLACE = [
    row(name, *arguments, inplace=True, on=(3, 5))
    for name, arguments in [
        ("CELU", ()), ("ELU", ()), ("Hardsigmoid", ()), ("Hardswish", ()), ("Hardtanh", ()), ("LeakyReLU", ()),
        ("Mish", ()), ("RReLU", ()), ("ReLU", ()), ("ReLU6", ()), ("SELU", ()), ("SiLU", ()), ("Threshold", (0.1, 2.0)),
        ("AlphaDropout", ()), ("Dropout2d", ()),
    ]
]  # fmt: skip  # torch refuses them on leaves: they are looked at, and not called

# ----- losses -----

CLASSES = whole(0, 3, 1, 2, 2)


def reduced(name, *arguments, on, **named):
    return [row(name, *arguments, on=on, reduction=r, **named) for r in ("mean", "sum", "none")]


LOSSES = [
    *reduced("MSELoss", on=[(5, 4), (5, 4)]),
    *reduced("L1Loss", on=[(5, 4), (5, 4)]),
    *reduced("SmoothL1Loss", on=[(5, 4), (5, 4)]),
    row("SmoothL1Loss", beta=0.3, on=[(5, 4), (5, 4)]),
    *reduced("HuberLoss", on=[(5, 4), (5, 4)]),
    row("HuberLoss", delta=0.3, on=[(5, 4), (5, 4)]),
    *reduced("BCELoss", on=[Leaf(between(5, 4)), between(5, 4)[::-1].copy()]),
    row("BCELoss", between(5, 4), on=[Leaf(between(5, 4)), between(5, 4)[::-1].copy()]),
    *reduced("BCEWithLogitsLoss", on=[(5, 4), between(5, 4)]),
    row("BCEWithLogitsLoss", between(4), pos_weight=between(4) + 1, on=[(5, 4), between(5, 4)]),
    *reduced("KLDivLoss", on=[(5, 4), between(5, 4)]),
    row("KLDivLoss", reduction="batchmean", log_target=True, on=[(5, 4), (5, 4)]),
    *reduced("PoissonNLLLoss", on=[(5, 4), between(5, 4) * 4]),
    row("PoissonNLLLoss", False, True, eps=1e-3, on=[Leaf(between(5, 4)), between(5, 4) * 4]),
    *reduced("GaussianNLLLoss", on=[(5, 4), (5, 4), Leaf(between(5, 4))]),
    row("GaussianNLLLoss", full=True, eps=0.5, on=[(5, 4), (5, 4), Leaf(between(5, 4))]),
    *reduced("SoftMarginLoss", on=[(5, 4), signs(5, 4)]),
    *reduced("HingeEmbeddingLoss", on=[(5, 4), signs(5, 4)]),
    row("HingeEmbeddingLoss", 0.4, on=[(5, 4), signs(5, 4)]),
    *reduced("CrossEntropyLoss", on=[(5, 4), CLASSES]),
    row("CrossEntropyLoss", between(4), ignore_index=2, label_smoothing=0.1, on=[(5, 4), CLASSES]),
    row("CrossEntropyLoss", on=[(5, 4), between(5, 4)]),
    row("CrossEntropyLoss", on=[(2, 4, 5), np.stack([CLASSES, CLASSES[::-1]])]),
    *reduced("NLLLoss", on=[(5, 4), CLASSES]),
    row("NLLLoss", between(4), ignore_index=2, on=[(5, 4), CLASSES]),
    *reduced("MultiMarginLoss", on=[(5, 4), CLASSES]),
    row("MultiMarginLoss", 2, 0.5, between(4), on=[(5, 4), CLASSES]),
    *reduced("MultiLabelMarginLoss", on=[(2, 4), whole([3, 0, -1, 1], [2, -1, 0, 1])]),
    *reduced("MultiLabelSoftMarginLoss", on=[(5, 4), between(5, 4)]),
    row("MultiLabelSoftMarginLoss", between(4), on=[(5, 4), between(5, 4)]),
    *reduced("MarginRankingLoss", on=[(5,), (5,), signs(5)]),
    row("MarginRankingLoss", 0.4, on=[(5,), (5,), signs(5)]),
    *reduced("CosineEmbeddingLoss", on=[(5, 4), (5, 4), signs(5)]),
    row("CosineEmbeddingLoss", 0.4, on=[(5, 4), (5, 4), signs(5)]),
    *reduced("TripletMarginLoss", on=[(5, 4), (5, 4), (5, 4)]),
    row("TripletMarginLoss", 2.0, 1.5, 1e-3, True, on=[(5, 4), (5, 4), (5, 4)]),
    *reduced("TripletMarginWithDistanceLoss", on=[(5, 4), (5, 4), (5, 4)]),
    row("TripletMarginWithDistanceLoss", margin=2.0, swap=True, on=[(5, 4), (5, 4), (5, 4)]),
    *reduced("CTCLoss", on=[(6, 2, 4), whole([1, 2, 2], [3, 1, 0]), whole(6, 5), whole(3, 2)]),
    row("CTCLoss", 3, zero_infinity=True, on=[(6, 2, 4), whole([1, 2, 2], [0, 1, 2]), whole(3, 6), whole(3, 3)]),
    *reduced("LinearCrossEntropyLoss", 3, 4, on=[(5, 3), CLASSES]),
    row("LinearCrossEntropyLoss", 3, 4, bias=True, weight=between(4), ignore_index=1, on=[(5, 3), CLASSES]),
    row("LinearCrossEntropyLoss", 3, 4, out_features=(2,), on=[(2, 3), whole([1, 0], [3, 2])]),
    row("AdaptiveLogSoftmaxWithLoss", 6, 9, [2, 5], div_value=2.0, on=[(5, 6), whole(0, 8, 3, 1, 6)]),
    row("AdaptiveLogSoftmaxWithLoss", 6, 9, [2, 5], div_value=2.0, head_bias=True, on=[(6,), np.array(7)]),
]

ROWS = [
    *LINEAR, *SHAPES, *CONVOLUTIONS, *POOLINGS, *NORMALIZATIONS, *DROPOUTS, *ACTIVATIONS, *LOSSES,
]  # fmt: skip
