"""The API reference: the command that CONTRIBUTING has makes pages that say what the docstrings say."""

import html
import importlib
import inspect
import re
import runpy
import subprocess
import sys

import pytest

from pargrad import optim
from tests.pages import PAGES, ROOT, told_commands

TOLD = told_commands(PAGES[".github/CONTRIBUTING.md"])
(SCRIPT,) = (word for words in TOLD for word in words if word.endswith("make.py"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The pages of two modules, made by the command that CONTRIBUTING has."""
    path = tmp_path_factory.mktemp("reference")
    command = [sys.executable, SCRIPT, path, "pargrad.optim", "pargrad.data"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
    return path


@pytest.fixture(scope="module")
def page(folder):
    return (folder / "pargrad" / "optim.html").read_text()


def text_of(page):
    """What a page says, without its marks and white space."""
    return "".join(html.unescape(re.sub(r"<[^>]+>", "", page)).split())


@pytest.mark.parametrize("name", optim.__all__)
def test_a_docstring_is_there_as_it_was_written(page, name):
    thing = getattr(optim, name)
    if inspect.ismodule(thing):
        assert f'href="optim/{name}.html"' in page
        return
    told = "".join(inspect.getdoc(thing).replace("`", "").split())
    assert told in text_of(page)
    assert f'id="{name}.__init__"' in page  # with its arguments


def test_a_docstring_that_was_taken_for_markdown_is_not_there():
    assert "a*b*c" in text_of("<p>a * b <code>*</code> c</p>")
    assert "a*b*c" not in text_of("<p>a <em> b </em> c</p>")


def test_formulas_keep_their_lines_and_stars_and_links_lead_out(page):
    assert "<em>" not in page
    formula = "m += (1 - beta1) * (g - m);  v = beta2 * v + (1 - beta2) * g^2\np ="
    assert formula in html.unescape(page)
    assert 'href="https://docs.pytorch.org/docs/stable/generated/torch.optim.AdamW.html"' in page
    assert re.search(r"<pre>&gt;&gt;&gt; layer = nn\.Linear\(2, 1\)\n", page)


def test_pages_need_no_network(page):
    loaded = re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="([^"]+)"', page)
    assert [address for address in loaded if address.startswith(("http", "//"))] == []


def test_the_pages_are_of_all_that_people_import():
    modules = [name for name in runpy.run_path(str(ROOT / SCRIPT))["MODULES"] if not name.startswith("!")]
    public = {name for module in modules for name in (module, *listed_by(module))}
    pages = "\n".join(PAGES.values())
    imported = set(re.findall(r"^(?:from|import) (pargrad[\w.]*)", pages, re.MULTILINE))
    assert len(imported) >= 6
    assert imported - public <= {"pargrad.gradcheck", "pargrad.rules"}  # for those who write rules: see CONTRIBUTING


def listed_by(name):
    """The modules that a module lists, and those that these list."""
    module = importlib.import_module(name)
    inner = [each for each in getattr(module, "__all__", []) if inspect.ismodule(getattr(module, each))]
    return [found for each in inner for found in (f"{name}.{each}", *listed_by(f"{name}.{each}"))]
