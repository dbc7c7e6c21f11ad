"""Makes the API reference of the docstrings: `python .github/reference/make.py DIRECTORY [MODULE ...]`."""

import sys
import warnings
from pathlib import Path

import pdoc
import pdoc.doc
import pdoc.render

# What people import. What these list comes with them, but for two modules that have the names of functions.
MODULES = [
    "pargrad", "pargrad.data", "pargrad.data.mnist", "pargrad.metrics", "pargrad.parallel", "pargrad.sklearn",
    "!pargrad.device", "!pargrad.tensor",
]  # fmt: skip

real = pdoc.doc.safe_eval_type


def annotation(text, globalns, localns, module, fullname):
    """An annotation without the names of the class it stands in: in Tensor, `int` is not the method of that name."""
    return real(text, globalns, None, module, fullname)


def make(directory: Path, modules: list[str]) -> None:
    pdoc.doc.safe_eval_type = annotation
    pdoc.render.configure(template_directory=Path(__file__).parent, show_source=False)
    with warnings.catch_warnings(action="ignore"):  # pdoc tells of each lambda whose source it cannot read
        pdoc.pdoc(*modules, output_directory=directory)


if __name__ == "__main__":
    make(Path(sys.argv[1]), sys.argv[2:] or MODULES)
