"""The hosts of the proof of that name: their links do what they are told. Where there can be none, that is said."""

import pytest

from tests.hosts import NETWORK, PACKETS, Network, listen, received, refusal, run, send

TOLD = {
    "nothing": (lambda link: None, PACKETS, PACKETS),
    "to lose a tenth": (lambda link: link.lose(0.1), 0.85 * PACKETS, 0.95 * PACKETS),
    "to be mended": (lambda link: link.mend(), PACKETS, PACKETS),
    "to be slow": (lambda link: link.slow(1), 1, 0.5 * PACKETS),
    "to be cut": (lambda link: link.cut(), 0, 0),
}


def through(network):
    """How many of the packets that the first host sends come to the second."""
    with network.process_on(1) as first, network.process_on(2) as second:
        second.submit(listen, f"{NETWORK}2").result(60)
        first.submit(send, f"{NETWORK}2").result(60)
        return second.submit(received).result(60)


@pytest.mark.timeout(300)
def test_links_let_through_what_they_are_told_to():
    if (reason := refusal()) is not None:
        assert reason.startswith("hosts need ")  # and the proof ends with it
        return
    with Network(2) as network:
        for what, (tell, least, most) in TOLD.items():
            tell(network.links[1])
            assert least <= through(network) <= most, f"a link that was told {what}"
        names = network.names
    assert not set(names) & set(run("ip", "netns", "list").split())


def test_a_system_without_the_commands_is_refused_in_words(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert refusal() == "hosts need the command ip: install iproute2"
