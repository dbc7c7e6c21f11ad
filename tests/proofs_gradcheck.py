"""Proof: the derivatives of every rule, at random points and for other sizes, are what central differences find."""

import itertools

import numpy as np

from pargrad import autograd
from pargrad.rules import RULES, stacks
from pargrad.tensor import Tensor, apply
from tests.proofs import proof

CASES = [
    (rule, sample)
    for rule in RULES.values()
    if rule.differentiable
    for sample in rule.samples
    if not sample.settings.keys() & {"padding_idx", "scale_grad_by_freq"}  # which change the gradient alone
]
# These rules work for all sizes, with these settings, as long as equal ones stay equal.
ANY_SIZE = (stacks.elementwise, stacks.along, stacks.along_last, stacks.normalized, stacks.matrices)
ANY_SETTING = {"correction", "decimals", "descending", "dim", "eps", "keepdim", "max", "min", "p", "stable"}


def resized(rule, sample, generator):
    """The sample with other sizes, where its rule has no need of them: each of 2 and more becomes one from 2 to 4."""
    shapes = sample.arguments
    if rule.stack not in ANY_SIZE or not set(sample.settings) <= ANY_SETTING or np.ndim(sample.domain[0]):
        return sample
    if not all(isinstance(shape, tuple) for shape in shapes):
        return sample
    sizes = {size: size if size < 2 else int(generator.integers(2, 5)) for size in sorted({*itertools.chain(*shapes)})}
    return sample._replace(arguments=tuple(tuple(sizes[size] for size in shape) for shape in shapes))


def check(rule, sample, seed):
    generator = np.random.default_rng(seed)
    sample = resized(rule, sample, generator)
    arrays = sample.arrays(generator)
    given = [
        Tensor(x, x.dtype.kind in "fc" and i not in rule.fixed) if isinstance(x, np.ndarray) else x
        for i, x in enumerate(arrays)
    ]
    with np.errstate(all="ignore"):
        try:
            autograd.gradcheck(lambda *inputs: apply(rule, *inputs, **sample.settings), given)
        except autograd.GradcheckError as error:
            error.add_note(f"Failing example: {rule.name} with {sample}, seed {seed}: {arrays}")
            raise


@proof(10_000)
def gradcheck(examples, seed):
    """The derivatives of every rule of the table, at random points and for other sizes: those of gradcheck."""
    for number in range(examples):
        check(*CASES[number % len(CASES)], [seed, number])
    return examples
