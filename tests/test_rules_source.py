"""How rules are written: no argument that a vjp keeps is rebound, and no vjp writes in place what depends on them."""

import ast
import dis
import inspect
import textwrap

import numpy as np
import pytest

from pargrad.rules import RULES, rule, sample, table


def rebound(row):
    """Arguments that the function gives another value though functions within it use them: that is what those see."""
    stores = {
        step.argval for step in dis.get_instructions(row.function) if step.opname in ("STORE_DEREF", "DELETE_DEREF")
    }
    return sorted(stores & set(row.arguments))


WRITERS = {"at", "copyto", "fill", "fill_diagonal", "place", "put", "put_along_axis", "putmask"}


def names_in(node):
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}


def base(target):
    """The variable that x[i], x.y or x is a part of."""
    while isinstance(target, ast.Subscript | ast.Attribute | ast.Starred):
        target = target.value
    return names_in(target)


def written(row):
    """Lines of the functions within a rule that write in place into, or from, what depends on arguments or on g."""
    (outer,) = ast.parse(textwrap.dedent(inspect.getsource(row.function))).body
    inner = [each for each in ast.walk(outer) if isinstance(each, ast.FunctionDef | ast.Lambda) and each is not outer]
    return sorted({line for each in inner for line in writes(each, {*row.arguments})})


def writes(function, dependent):
    dependent = dependent | {argument.arg for argument in function.args.args}
    body = function.body if isinstance(function, ast.FunctionDef) else [function.body]
    nodes = [node for statement in body for node in ast.walk(statement)]
    for _ in nodes:  # until nothing new is found to depend on them
        before = len(dependent)
        for node in nodes:
            if isinstance(node, ast.Assign | ast.AugAssign | ast.NamedExpr) and names_in(node.value) & dependent:
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                dependent = dependent.union(*(base(target) for target in targets))
        if len(dependent) == before:
            break
    for node in nodes:
        if isinstance(node, ast.AugAssign):
            parts = [node.target, node.value]
        elif isinstance(node, ast.Assign) and any(isinstance(target, ast.Subscript) for target in node.targets):
            parts = [*node.targets, node.value]
        elif isinstance(node, ast.Call) and (
            getattr(node.func, "attr", None) in WRITERS or any(keyword.arg == "out" for keyword in node.keywords)
        ):
            parts = [node]
        else:
            continue
        if set().union(*map(names_in, parts)) & dependent:
            yield ast.unparse(node)


every = pytest.mark.parametrize("row", RULES.values(), ids=RULES)


@every
def test_no_argument_that_a_vjp_uses_is_rebound(row):
    assert rebound(row) == [], f"{row.name}: use another name, so that what a vjp keeps is the argument"


@every
def test_no_vjp_writes_in_place_what_depends_on_its_arguments(row):
    if row.plain is None:
        assert written(row) == [], f"{row.name}: write it with operators, or give plain="


# ----- rules that are wrong -----


def rebinds(x, y):
    x = np.abs(x)
    return x * y, lambda g: g * y, lambda g: g * x


def rebinds_in_a_loop(x, y):
    for y in (y, 2 * y):  # noqa: B007, B020
        pass
    return x * y, lambda g: g * y, lambda g: g * x


def rebinds_with_a_walrus(x, y):
    return (x := 2 * x) * y, lambda g: g * y, lambda g: g * x


def rebinds_what_no_vjp_uses(x, y):
    x = np.abs(x)
    return x + y, lambda g: g, lambda g: g


@pytest.mark.parametrize(("function", "names"), [
    (rebinds, ["x"]), (rebinds_in_a_loop, ["y"]), (rebinds_with_a_walrus, ["x"]), (rebinds_what_no_vjp_uses, []),
])  # fmt: skip
def test_a_rebound_argument_is_found(function, names, monkeypatch):
    monkeypatch.setattr(table, "RULES", {})
    assert rebound(rule(sample((2,), (2,)))(function)) == names


def sets_elements(x):
    def vjp(g):
        out = np.zeros(3)
        out[:] = g
        return out

    return x * 1, vjp


def sets_elements_of_what_depends(x):
    def vjp(g):
        out = 2 * g
        (twice := out)[0] = 0
        more = twice
        more[1] = 0
        return more

    return x * 1, vjp


def adds_in_place(x):
    def vjp(g):
        total = 0
        total += g
        return total

    return x * 1, vjp


def adds_at(x):
    def vjp(g):
        out = np.zeros(3)
        np.add.at(out, [0, 1, 2], g)
        return out

    return x * 1, vjp


def writes_out(x):
    return x * 1, lambda g: np.multiply(g, 1, out=np.empty(3))


def writes_what_it_keeps(x):
    def vjp(g):
        x[0] = 1
        return g

    return x * 1, vjp


def writes_indices(x):
    index = [0, 0]

    def vjp(g):
        index[0] = 1
        return g[index[0] - 1 :]

    return x * 1, vjp


@pytest.mark.parametrize(("function", "count"), [
    (sets_elements, 1), (sets_elements_of_what_depends, 2), (adds_in_place, 1), (adds_at, 1), (writes_out, 1),
    (writes_what_it_keeps, 1), (writes_indices, 0),
])  # fmt: skip
def test_a_vjp_that_writes_in_place_is_found(function, count, monkeypatch):
    monkeypatch.setattr(table, "RULES", {})
    assert len(written(rule(sample((3,)))(function))) == count
