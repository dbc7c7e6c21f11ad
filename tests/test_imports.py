"""Imports run one way, and importing pargrad loads numpy and nothing heavier."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pargrad

PACKAGE = Path(pargrad.__file__).parent
# numpy <- rules <- tensor <- nn <- parallel <- cli; optim and data see arrays, not parallel.
LAYERS = {
    "rules": {"rules"},
    "version": set(),
    "printing": set(),
    "modes": set(),
    "tree": set(),
    "amp": set(),
    "cuda": {"amp", "cuda"},
    "accelerator": set(),
    "backends": set(),
    "graph": {"modes"},
    "promotion": {"rules"},
    "metrics": set(),
    "interchange": {"tensor"},
    "sklearn": {"nn", "optim", "parallel", "random", "tensor"},
    "tensor": {"graph", "modes", "printing", "promotion", "rules"},
    "higher": {"graph", "promotion", "rules", "tensor"},
    "inplace": {"graph", "modes", "promotion", "rules", "tensor"},
    "random": {"tensor"},
    "stacking": {"graph", "higher", "modes", "promotion", "random", "rules", "tensor", "tree"},
    "gradcheck": {"graph", "rules", "tensor"},
    "function": {"graph", "modes", "rules", "tensor"},
    "viz": {"graph", "tensor"},
    "creation": {"promotion", "tensor"},
    "dtypes": {"creation", "promotion", "tensor"},
    "autograd": {"autograd", "creation", "function", "gradcheck", "graph", "modes", "rules", "tensor"},
    "operators": {"inplace", "operators", "promotion", "rules", "tensor"},
    "special": {"operators", "promotion", "tensor"},
    "linalg": {"operators"},
    "fft": {"creation", "operators", "promotion", "rules", "tensor"},
    "masked": {"linalg", "operators", "tensor"},
    "signal": {"creation", "signal", "tensor"},
    "sampling": {"creation", "inplace", "random", "tensor"},
    "lowrank": {"linalg", "sampling", "tensor"},
    "device": {"creation", "modes", "operators", "tensor"},
    "serialization": {"device", "tensor"},
    "utils": {"graph", "modes", "operators", "random", "sampling", "tensor", "utils"},
    "nn": {"creation", "function", "graph", "inplace", "modes", "nn", "operators", "promotion", "random", "rules"}
    | {"sampling", "stacking", "tensor"},
    "distributions": {"creation", "distributions", "linalg", "modes", "nn", "operators", "sampling", "special"}
    | {"tensor"},
    "testing": {"tensor"},
    "spectral": {"fft", "nn", "operators", "rules", "tensor"},
    "func": {"graph", "modes", "nn", "rules", "stacking", "tensor", "tree"},
    "optim": {"graph", "modes", "nn", "optim", "tensor"},
    "data": {"data", "random", "tensor", "utils"},
    "parallel": {"data", "graph", "metrics", "modes", "nn", "optim", "parallel", "random", "rules", "serialization"}
    | {"stacking", "tensor", "version"},
    "models": {"nn", "tensor"},
    "reporting": {"metrics", "parallel", "reporting", "serialization"},
    "commands": {"commands", "data", "metrics", "models", "nn", "optim", "parallel", "reporting"},
    "cli": {"commands", "parallel"},
    "__init__": {
        "accelerator",
        "amp",
        "autograd",
        "backends",
        "creation",
        "cuda",
        "device",
        "distributions",
        "dtypes",
        "fft",
        "func",
        "interchange",
        "linalg",
        "lowrank",
    }
    | {"masked", "modes", "nn", "operators", "optim", "random", "sampling", "serialization", "signal", "special"}
    | {"printing", "spectral", "tensor", "testing", "utils", "version", "viz"},
    "__main__": {"cli"},
}
UPWARD = ("nn", "parallel", "from pargrad.parallel import score")
HEAVY = ["ray", "scipy", "torch", "matplotlib", "tqdm", "threadpoolctl", "jsonargparse", "safetensors", "cloudpickle"]


def imports_of(source):
    """(line number, imported name) of every import in a source, those inside functions too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def layer_of(name):
    """The layer a dotted name belongs to; of the package itself, the attribute that is imported."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in LAYERS else "__init__"


def wrong_imports(layer, source):
    lines = source.splitlines()
    for number, name in imports_of(source):
        if name.split(".")[0] == "pargrad" and layer_of(name) not in LAYERS[layer] | {layer}:
            text = lines[number - 1].strip()
            if not (text.startswith(UPWARD[2]) and (layer, layer_of(name)) == UPWARD[:2]):
                yield number, text


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path):
    layer = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert layer in LAYERS, f"{layer} has no place among the layers of {__file__}"
    source = path.read_text()
    if layer == "commands":
        source = source.replace("import pargrad\n", "\n")  # the command may see all of it
    assert list(wrong_imports(layer, source)) == []


def test_a_wrong_import_is_seen():
    assert list(wrong_imports("rules", "from pargrad.tensor import Tensor\n"))
    assert list(wrong_imports("nn", "def f():\n    from pargrad.parallel import Trainer\n"))
    assert list(wrong_imports("optim", "from pargrad.parallel import score\n"))
    assert not list(wrong_imports("nn", "def f():\n    from pargrad.parallel import score\n"))


def test_the_upward_import_is_where_it_is_said_to_be():
    assert UPWARD[2] in (PACKAGE / "nn" / "module.py").read_text()


def test_modules_that_import_ray_say_so_in_their_names():
    importing = {
        path.name
        for path in PACKAGE.rglob("*.py")
        for _, name in imports_of(path.read_text())
        if name.split(".")[0] == "ray"
    }
    assert importing == {path.name for path in (PACKAGE / "parallel").glob("ray_*.py")}


RUNS_CODE = re.compile(
    r"pickle\.load\(|pickle\.Unpickler|allow_pickle=True|(?<!\.)(?<!def )\b(eval|exec)\(|yaml\.load\(|marshal"
)


def test_nothing_that_is_read_from_a_file_can_run_code():
    """Messages between processes of one user are pickled; files are not, and none is evaluated."""
    assert RUNS_CODE.search("pickle.load(file)")
    assert [path.name for path in PACKAGE.rglob("*.py") if RUNS_CODE.search(path.read_text())] == []


def loaded_by(statement):
    code = f"import json, sys\n{statement}\nprint(json.dumps(sorted({{name.split('.')[0] for name in sys.modules}})))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return set(json.loads(out.stdout))


def test_import_is_light():
    loaded = loaded_by("import pargrad, pargrad.nn.functional, pargrad.optim, pargrad.data")
    assert "numpy" in loaded
    assert not loaded & set(HEAVY)


def test_the_serial_trainer_loads_no_ray():
    assert not loaded_by("from pargrad.parallel import Trainer") & {"ray", "scipy", "torch"}


def test_a_heavy_import_is_seen():
    assert "threadpoolctl" in loaded_by("import threadpoolctl")


def test_every_exported_name_is_there_and_documented():
    names = [name for name in pargrad.__all__ if callable(getattr(pargrad, name))]
    assert len(names) > 60
    assert [name for name in names if not getattr(pargrad, name).__doc__] == []
