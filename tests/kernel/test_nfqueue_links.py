"""Interface names stay true while interfaces come, go and change their names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from qfilter.netlink.links import Links
from tests.kernel.nfqueue import PORT, Remembering, judge_all, opened, rules
from tests.lab.clients import send_datagrams
from tests.lab.namespace import Namespace
from tests.lab.topology import Lab

pytestmark = pytest.mark.needs("netns")


@contextmanager
def links_of(host: Namespace) -> Iterator[Links]:
    with host.entered():
        links = Links.open()
    try:
        yield links
    finally:
        links.close()


def test_every_interface_is_known_at_once(lab: Lab) -> None:
    lab.client.ip(*(f"link add v{number} index {1000 + number} type veth" for number in range(300)))
    with links_of(lab.client) as links:
        assert [links.name(1000 + number) for number in range(300)] == [f"v{number}" for number in range(300)]
        assert links.name(1) == "lo"


def test_an_interface_that_comes_is_renamed_and_goes(lab: Lab) -> None:
    with links_of(lab.client) as links:
        with pytest.raises(LookupError, match="interface index 77: no such interface"):
            links.name(77)
        lab.client.ip("link add first index 77 type veth")
        links.refresh()
        assert links.name(77) == "first"
        lab.client.ip("link set first name second")
        links.refresh()
        assert links.name(77) == "second"
        lab.client.ip("link del second")
        links.refresh()
        with pytest.raises(LookupError):
            links.name(77)
        lab.client.ip("link add third index 77 type veth")
        links.refresh()
        assert links.name(77) == "third"


def test_a_port_that_leaves_its_bridge_keeps_its_name(lab: Lab) -> None:
    with links_of(lab.client) as links:
        lab.client.ip("link add br0 type bridge", "link add port index 78 type veth", "link set port master br0")
        lab.client.ip("link set port nomaster")
        links.refresh()
        assert links.name(78) == "port"


def test_lost_notices_are_made_good(lab: Lab) -> None:
    """The socket overflows with notices; afterwards every name is asked for again."""
    with links_of(lab.client) as links:
        links._channel.resize(2_048)
        lab.client.ip("link add v0 index 77 type veth", *(f"link set v{n} name v{n + 1}" for n in range(50)))
        links.refresh()
        assert (links.name(77), links.name(1)) == ("v50", "lo")


@pytest.mark.needs("nfqueue", "iptables-legacy")
def test_packets_before_and_after_a_rename(lab: Lab) -> None:
    with opened(lab.gateway) as queue:
        rules(lab.gateway, "FORWARD -p udp -j NFQUEUE")
        judge = Remembering()
        for name in ("lan", "inside", "outside"):
            if name != "lan":
                before = judge.seen[-1].iifname
                assert before is not None
                lab.gateway.rename(before, name)
            send_datagrams(lab.client, lab.server.ipv4, PORT, 2)
            judge_all(queue, judge, 2)
    assert [packet.iifname for packet in judge.seen] == ["lan", "lan", "inside", "inside", "outside", "outside"]
    assert {packet.oifname for packet in judge.seen} == {"wan"}
