"""Nested tuples, lists and dicts of tensors, taken apart and put together again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any


def leaves(tree: Any) -> Iterator[Any]:
    """What is in a tree, from left to right; a dict's values in the order of its keys' insertion."""
    if isinstance(tree, dict):
        for value in tree.values():
            yield from leaves(value)
    elif isinstance(tree, tuple | list):
        for value in tree:
            yield from leaves(value)
    else:
        yield tree


def mapped(function: Callable, tree: Any, *others: Any) -> Any:
    """A tree of the same form, each leaf replaced by function(leaf, and what stands at its place in others)."""
    if isinstance(tree, dict):
        return type(tree)((key, mapped(function, value, *(o[key] for o in others))) for key, value in tree.items())
    if isinstance(tree, tuple | list):
        parts = [mapped(function, value, *(o[i] for o in others)) for i, value in enumerate(tree)]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    return function(tree, *others)


def filled(tree: Any, values: Any) -> Any:
    """A tree of the same form with these leaves, from left to right."""
    rest = iter(values)
    return mapped(lambda _: next(rest), tree)


def spread(prefix: Any, tree: Any) -> Any:
    """A tree of the form of `tree` whose leaves are what `prefix`, which may be shallower, says of them."""
    if isinstance(prefix, dict) and not (isinstance(tree, dict) and prefix.keys() == tree.keys()):
        raise ValueError(f"expected one for each of {sorted(tree) if isinstance(tree, dict) else tree}, got {prefix}")
    if isinstance(prefix, tuple | list) and not (isinstance(tree, tuple | list) and len(prefix) == len(tree)):
        got = f"{len(tree)} values" if isinstance(tree, tuple | list) else type(tree).__name__
        raise ValueError(f"expected as many as there are in {prefix}, got {got}")
    if isinstance(tree, dict):
        return {key: spread(prefix[key] if isinstance(prefix, dict) else prefix, value) for key, value in tree.items()}
    if isinstance(tree, tuple | list):
        parts = [spread(prefix[i] if isinstance(prefix, tuple | list) else prefix, x) for i, x in enumerate(tree)]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    return prefix
