"""Scripts written for torch, in the habits of others: with only their imports changed they end where torch ends."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

torch.set_num_threads(1)  # small arrays: threads that wait for each other take ten times as long

SCRIPTS = Path(__file__).parent / "scripts"
RELATIVE = 1e-4
OF_RESULTS = 1e-2  # of what a trained network gives: the last bits of the steps before add up in it


def ported(source):
    """A script with pargrad in the place of torch, in the lines of its imports and nowhere else."""
    source = re.sub(r"^import torch$", "import pargrad as torch", source, flags=re.MULTILINE)
    return re.sub(r"^(import|from) torch\b", r"\1 pargrad", source, flags=re.MULTILINE)


def results(source, path):
    namespace = {"__name__": "script"}
    exec(compile(source, str(path), "exec"), namespace)
    return namespace["main"](str(path))


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch has things to say about some of these habits
@pytest.mark.parametrize("name", sorted(path.stem for path in SCRIPTS.glob("*.py")))
def test_a_script_ends_where_torch_ends(name, tmp_path, capsys):
    source = (SCRIPTS / f"{name}.py").read_text()
    mine = ported(source)
    assert not re.search(r"^\s*(import|from) torch\b", mine, flags=re.MULTILINE)
    with torch.random.fork_rng():
        expected = results(source, tmp_path / "theirs.pt")
    got = results(mine, tmp_path / "mine.pt")
    assert list(got) == list(expected)
    assert 20 <= len(expected["losses"]) <= 50
    assert expected["losses"][-1] < 0.9 * expected["losses"][0]  # it has learnt: equal losses say something
    for key, value in expected.items():
        np.testing.assert_allclose(got[key], value, rtol=RELATIVE if key == "losses" else OF_RESULTS, err_msg=key)
    assert capsys.readouterr().out.count("\n") >= 6  # what both have printed
