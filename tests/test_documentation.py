"""Every public name has a docstring that says something, and the examples in docstrings are right."""

import doctest
import importlib
import inspect
from pathlib import Path

import numpy as np
import pytest

import pargrad
from pargrad import nn, operators, optim
from pargrad.nn import functional as F
from pargrad.operators import documentation
from pargrad.parallel.cores import one_blas_thread

MODULES = """
    amp autograd autograd.functional creation data data.mnist device distributions dtypes fft func linalg masked metrics
    nn nn.functional nn.init nn.utils nn.utils.parametrizations nn.utils.parametrize nn.utils.rnn optim
    optim.lr_scheduler optim.swa_utils parallel random rules sampling serialization signal.windows sklearn special
    testing utils.checkpoint utils.data viz
""".split()  # noqa: SIM905
OUR_OWN = {"data", "data.mnist", "metrics", "parallel", "rules", "sklearn", "viz"}  # torch has nothing like them
NAMES = {"pg": pargrad, "nn": nn, "F": F, "optim": optim, "np": np}  # what the examples take as imported
OF_OTHERS = {np.dtype, str}  # numpy's and Python's own, under torch's names


def public(module):
    """What a module offers: what it lists, or, where it gathers what others list, all of it."""
    listed = getattr(module, "__all__", None) or [name for name in vars(module) if not name.startswith("_")]
    return {name: getattr(module, name) for name in listed}


def is_documented(value):
    """Whether a function or class has a docstring of its own, of more than a word and a link."""
    text = value.__dict__.get("__doc__") if inspect.isclass(value) else value.__doc__
    words = [word for word in (text or "").split() if not word.startswith("https://")]
    return len(words) > 1


def undocumented(value, name):
    """The names of what has no docstring: the value itself, or members of a class, which may inherit theirs."""
    missing = [] if is_documented(value) else [name]
    if inspect.isclass(value):
        for member, found in vars(value).items():
            is_method = inspect.isfunction(found) or isinstance(found, staticmethod | classmethod | property)
            if is_method and not member.startswith("_") and not inspect.getdoc(getattr(value, member)):
                missing.append(f"{name}.{member}")
    return missing


@pytest.mark.parametrize("module", ["", *MODULES])
def test_every_public_name_is_documented(module):
    found = importlib.import_module(f"pargrad.{module}".rstrip("."))
    names = public(found)
    assert found.__doc__
    assert names
    missing = []
    for name, value in names.items():
        if (inspect.isclass(value) or inspect.isroutine(value)) and value not in OF_OTHERS:
            missing += undocumented(value, name)
    assert missing == []


def test_a_name_without_a_docstring_is_found():
    class Silent:
        def told(self):
            """It says a thing."""

        def untold(self):
            pass

    assert undocumented(Silent, "Silent") == ["Silent", "Silent.untold"]
    assert undocumented(nn.Identity, "Identity") == []  # its forward has that of Module
    assert undocumented(lambda: None, "function") == ["function"]


# ----- operators, whose docstrings and signatures the table gives -----


@pytest.mark.parametrize("module", sorted({"", *MODULES} - OUR_OWN))
def test_what_torch_describes_names_its_page(module):
    """Either every function and class does, or the module says where they are described."""
    found = importlib.import_module(f"pargrad.{module}".rstrip("."))
    if "https://docs.pytorch.org" not in found.__doc__:
        ours = {name: value for name, value in public(found).items() if is_ours(value)}
        silent = {f"{module}.{name}".lstrip(".") for name, value in ours.items() if "https://" not in value.__doc__}
        assert ours
        assert [path for path in silent if documentation.has_a_page(path)] == []


def is_ours(value):
    return callable(value) and value.__module__.startswith("pargrad")


def test_every_entry_of_the_tables_is_used():
    told = {function.__doc__ for function in (*operators.FUNCTIONS.values(), *operators.PUBLIC.values())}
    meanings = [meaning for meaning in documentation.MEANINGS.values() if not any(meaning in text for text in told)]
    assert meanings == []
    assert [name for name, text in documentation.METHODS.items() if getattr(pargrad.Tensor, name).__doc__ != text] == []
    assert [name for name, function in operators.PUBLIC.items() if function.__doc__.startswith("The rule ")] == []


@pytest.mark.parametrize(
    ("name", "signature"),
    [
        ("exp", "(input)"),
        ("pow", "(input, exponent)"),
        ("sum", "(input, dim=None, keepdim=False, *, dtype=None)"),
        ("addcmul", "(input, tensor1, tensor2, value=1)"),
        ("add", "(input, other, *, alpha=None)"),
    ],
)
def test_operators_have_the_signature_that_they_take(name, signature):
    function = getattr(pargrad, name)
    assert str(inspect.signature(function)) == signature
    taken = inspect.signature(function).parameters.values()
    assert (
        function(**{each.name: pargrad.ones(2) for each in taken if each.default is each.empty}).requires_grad is False
    )


# ----- examples -----


def module_of(source):
    return ".".join(source.relative_to(Path(pargrad.__file__).parent.parent).with_suffix("").parts)


def examples_of(module):
    """The examples in the docstrings of what a module itself defines."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    return [test for test in finder.find(module, globs=NAMES) if test.examples]


def run(test):
    """What is wrong with an example, in doctest's words."""
    told = []
    pargrad.manual_seed(0)
    with one_blas_thread():
        doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=told.append)
    return "".join(told)


SOURCES = sorted(Path(pargrad.__file__).parent.rglob("*.py"))
EXAMPLES = {
    test.name: test
    for source in SOURCES
    if ">>> " in source.read_text()
    for test in examples_of(importlib.import_module(module_of(source)))
}


def test_there_are_examples():
    assert len(EXAMPLES) >= 40


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_are_right(name):
    assert run(EXAMPLES[name]) == ""


def test_a_wrong_example_is_found():
    def wrong():
        """
        >>> pg.ones(2)
        tensor([1., 2.])
        """

    (test,) = doctest.DocTestFinder().find(wrong, globs=NAMES)
    assert "Expected:" in run(test)
