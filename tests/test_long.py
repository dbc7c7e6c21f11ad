"""The long proofs at a tenth of their size, and the command that runs them whole."""

import pytest
from hypothesis import strategies as st

from tests import long, proofs
from tests.proofs import hold, load, proof


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", [name for name, one in load().items() if one.refusal() is None])
def test_a_tenth_of_the_proof_finds_nothing(name):
    one = load()[name]
    assert one.function(one.size // 10, 1) >= one.size // 10


def test_a_proof_that_cannot_be_run_here_says_why(monkeypatch, capsys):
    monkeypatch.setattr(proofs, "PROOFS", {})
    monkeypatch.setattr(long, "load", lambda: proofs.PROOFS)

    @proof(10, lambda: "it needs the moon")
    def moon(examples, seed):
        """Tides."""
        raise AssertionError("it was run")

    assert long.main(["moon"]) == 1
    assert capsys.readouterr().out == "moon: it needs the moon\n"


@pytest.fixture
def own_proofs(monkeypatch):
    """A registry of a test's own, with one proof that holds and one that does not."""
    monkeypatch.setattr(proofs, "PROOFS", {})
    monkeypatch.setattr(long, "load", lambda: proofs.PROOFS)

    @proof(200)
    def holds(examples, seed):
        """Integers are not negative."""
        return hold(lambda n: n >= 0, st.integers(0, 10**6), examples, seed)

    @proof(100)
    def fails(examples, seed):
        """Integers are below 1,000."""

        def check(n):
            assert n < 1000

        return hold(check, st.integers(0, 10**6), examples, seed)

    return proofs.PROOFS


@pytest.mark.usefixtures("own_proofs")
def test_the_command_lists_what_there_is(capsys):
    assert long.main([]) == 0
    assert capsys.readouterr().out.split("\n")[:2] == [
        "holds                200  Integers are not negative.",
        "fails                100  Integers are below 1,000.",
    ]


@pytest.mark.usefixtures("own_proofs")
def test_a_proof_that_holds_says_how_many_examples_it_had(capsys):
    assert long.main(["holds"]) == 0
    out = capsys.readouterr().out
    assert "holds: 200 examples, seed 0 ..." in out
    assert "nothing found" in out
    assert long.main(["holds", "--examples", "30", "--seed", "4"]) == 0
    assert "holds: 30 examples, seed 4 ..." in capsys.readouterr().out


@pytest.mark.usefixtures("own_proofs")
def test_a_proof_that_fails_shows_the_least_example_and_the_others_are_run(capsys):
    assert long.main(["all"]) == 1
    out = capsys.readouterr().out
    assert "nothing found" in out
    assert "case=1000" in out
    assert "fails: AssertionError after" in out
    assert long.main(["fails"]) == 1


@pytest.mark.usefixtures("own_proofs")
def test_an_unknown_name_is_answered_with_the_names(capsys):
    with pytest.raises(SystemExit):
        long.main(["nothing"])
    assert "there is no proof named 'nothing': choose from holds, fails" in capsys.readouterr().err


def test_two_proofs_of_one_name_and_one_without_a_word_are_refused(own_proofs):
    with pytest.raises(ValueError, match="two proofs are named 'holds'"):
        proof(10)(own_proofs["holds"].function)
    with pytest.raises(ValueError, match="does not say what it proves"):
        proof(10)(lambda examples, seed: 0)


def test_the_same_seed_draws_the_same_examples():
    def drawn(seed):
        seen = []
        hold(seen.append, st.integers(0, 10**9), 50, seed)
        return seen

    assert drawn(1) == drawn(1) != drawn(2)
