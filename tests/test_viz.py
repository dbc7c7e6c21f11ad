"""Pictures of graphs: text in graphviz's language, with names, shapes and dtypes, whatever they are."""

import re

import pytest

import pargrad as pg
from pargrad import nn
from pargrad.viz import dot

STRING = r'"(?:[^"\\]|\\.)*"'
ATTRIBUTE = rf"\w+=(?:{STRING}|[\w.]+)"
LINE = re.compile(
    rf"digraph {{|}}|  rankdir=LR;|  (?:node|edge) \[{ATTRIBUTE}(?:, {ATTRIBUTE})*\];"
    rf"|  \w+(?: -> \w+)?(?: \[{ATTRIBUTE}(?:, {ATTRIBUTE})*\])?;"
)


def parsed(text):
    """Labels of what is drawn, and arrows between them with theirs; every line must be graphviz's."""
    lines = text.splitlines()
    assert (lines[0], lines[-1]) == ("digraph {", "}")
    labels, arrows = {}, []
    for line in lines:
        assert LINE.fullmatch(line), line
        found = re.match(rf"  (\w+)(?: -> (\w+))?(?: \[label=({STRING}))?", line)
        if found is None or found[1] in ("node", "edge", "rankdir"):
            continue
        label = None if found[3] is None else found[3][1:-1]
        if found[2]:
            arrows.append((found[1], found[2], label))
        else:
            labels[found[1]] = label
    assert all(first in labels and second in labels for first, second, _ in arrows)
    return labels, [(labels[first], labels[second], label) for first, second, label in arrows]


def test_a_graph_of_operators_and_leaves():
    x, w = pg.ones(2, 3, requires_grad=True), pg.ones(3, requires_grad=True, dtype=pg.float64)
    text = dot(((x * w).tanh() + x).sum(), {"x": x})
    labels, arrows = parsed(text)
    assert sorted(labels.values()) == sorted(
        ["output\\nfloat64 []", "sum", "add", "tanh", "mul", "x\\nfloat32 [2, 3]", "float64 [3]"]
    )
    assert ("x\\nfloat32 [2, 3]", "mul", "float32 [2, 3]") in arrows
    assert ("x\\nfloat32 [2, 3]", "add", "float32 [2, 3]") in arrows
    assert ("float64 [3]", "mul", "float64 [3]") in arrows
    assert ("tanh", "add", "float64 [2, 3]") in arrows
    assert ("sum", "output\\nfloat64 []", None) in arrows
    assert len(arrows) == 7


def test_a_model_and_its_parameters_by_name():
    model = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    labels, arrows = parsed(dot(model(pg.ones(4, 3)), model.named_parameters()))
    assert {"0.weight\\nfloat32 [2, 3]", "0.bias\\nfloat32 [2]", "linear", "relu"} <= set(labels.values())
    assert len(arrows) == 4


def test_several_outputs_in_one_picture():
    x = pg.ones(3, requires_grad=True)
    y = x * 2
    labels, _ = parsed(dot([y.sum(), y.exp()], {"output": y}))
    assert sum(label.startswith("output") for label in labels.values()) == 2
    assert sum(label == "mul" for label in labels.values()) == 1


def test_a_leaf_and_a_constant():
    x = pg.ones(3, requires_grad=True)
    assert len(parsed(dot(x))[1]) == 1
    assert len(parsed(dot(pg.ones(2)))[1]) == 1


HOSTILE = [
    'a"b',
    "back\\slash",
    "ends in \\",
    '\\"',
    "two\nlines",
    "]; evil -> x [",
    "<b>",
    "ü ☃",
    "",
    '"]; n9 [label="x',
]


@pytest.mark.parametrize("name", HOSTILE, ids=repr)
def test_any_name_may_be_given(name):
    x = pg.ones(3, requires_grad=True)
    text = dot(x * 2, {name: x})
    labels, arrows = parsed(text)
    assert (len(labels), len(arrows)) == (3, 2)


def test_nodes_without_a_rule_have_names_too():
    class Double(pg.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g * 2

    x = pg.ones(3, requires_grad=True)
    y = x * 1
    y[0] = 5.0
    labels, _ = parsed(dot(Double.apply(y)))
    assert {"Double", "copy_slices", "mul"} <= set(labels.values())


def test_a_graph_that_was_freed_is_refused():
    x = pg.ones(3, requires_grad=True)
    y = x.exp().sum()
    y.backward()
    with pytest.raises(RuntimeError, match=r"was freed by backward: draw it before, or write retain_graph=True"):
        dot(y)


def test_a_long_chain_needs_no_recursion():
    x = pg.ones((), requires_grad=True)
    y = x
    for _ in range(3000):
        y = y + 1
    assert dot(y).count(" -> ") == 3001
