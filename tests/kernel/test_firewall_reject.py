"""A reject that the consumer hands back is answered by the kernel, on every hook, in both families."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from qfilter import firewall
from qfilter.model.hook import Hook
from qfilter.model.marks import handed_back
from qfilter.model.plan import KernelRules
from qfilter.model.policy import Backend, Exempt, Target
from qfilter.model.verdict import RejectWith
from tests.lab.clients import QUICK, Outcome, Seen, ping, tcp_connect, udp_ask
from tests.lab.namespace import Host
from tests.lab.process import Running
from tests.lab.servers import tcp_server, udp_echo
from tests.lab.topology import Lab

PORT = 7
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
each_backend = pytest.mark.parametrize(
    "backend",
    [
        pytest.param(Backend.IPTABLES_LEGACY, marks=pytest.mark.needs("iptables-legacy")),
        pytest.param(Backend.IPTABLES_NFT, marks=pytest.mark.needs("iptables-nft")),
        pytest.param(Backend.NFT, marks=pytest.mark.needs("nft-queue")),
    ],
)
each_family = pytest.mark.parametrize("family", [4, 6])


def rules(backend: Backend, hook: Hook = Hook.FORWARD) -> KernelRules:
    return KernelRules(
        backend=backend,
        target=Target.NFQUEUE,
        hooks=(hook,),
        exempt=tuple(Exempt),
        mark_mask=0xF000_0000,
        rejects=tuple(RejectWith),
    )


@contextmanager
def rejecting(lab: Lab, of: KernelRules, answer: RejectWith) -> Iterator[Running]:
    """The gateway hands every queued packet back with the code of an answer."""
    mark = handed_back(of.mark_mask, answer)
    with (
        lab.gateway.entered(),
        lab.gateway.start(sys.executable, "-m", "tests.kernel.handing_back", f"{mark:#x}") as consumer,
    ):
        consumer.wait_for("ready")
        firewall.install(of)
        yield consumer
        firewall.remove()


def ends(lab: Lab, hook: Hook) -> tuple[Host, Host]:
    """Who asks whom, so that the gateway sees the question at the hook."""
    return {
        Hook.INPUT: (lab.client, lab.gateway),
        Hook.FORWARD: (lab.client, lab.server),
        Hook.OUTPUT: (lab.gateway, lab.server),
    }[hook]


@each_backend
@each_family
@pytest.mark.parametrize("hook", [Hook.INPUT, Hook.FORWARD, Hook.OUTPUT])
def test_tcp_is_reset_and_all_else_unreachable(lab: Lab, backend: Backend, hook: Hook, family: int) -> None:
    source, target = ends(lab, hook)
    address = target.address(family)
    with tcp_server(target, PORT), udp_echo(target, PORT) as served:
        # The neighbours know each other before every packet of the hook is rejected, and nothing of it comes late.
        assert ping(source, address).outcome is Outcome.ANSWERED
        with rejecting(lab, rules(backend, hook), RejectWith.TCP_RESET) as consumer:
            assert tcp_connect(source, address, PORT) == Seen(Outcome.REFUSED, "ECONNREFUSED")
            assert udp_ask(source, address, PORT) == Seen(Outcome.REFUSED, "ECONNREFUSED")
            consumer.wait_for("rejecting 17")
        asked = ("rejecting 6", "rejecting 17")
        assert [line for line in consumer.lines if line in asked] == list(asked)
        assert served.collect(0) == 0
        # A connection before would have last packets, to be queued beside the two.
        assert tcp_connect(source, address, PORT).outcome is Outcome.CONNECTED


ANSWERS = {
    RejectWith.PORT_UNREACHABLE: ("ECONNREFUSED", "ECONNREFUSED"),
    RejectWith.HOST_UNREACHABLE: ("EHOSTUNREACH", "EHOSTUNREACH"),
    RejectWith.NO_ROUTE: ("ENETUNREACH", "ENETUNREACH"),
    RejectWith.ADMIN_PROHIBITED: ("EHOSTUNREACH", "EACCES"),
    RejectWith.NET_UNREACHABLE: ("ENETUNREACH", "ENETUNREACH"),
    RejectWith.PROT_UNREACHABLE: ("ENOPROTOOPT", "ECONNREFUSED"),
    RejectWith.NET_PROHIBITED: ("ENETUNREACH", "EACCES"),
    RejectWith.HOST_PROHIBITED: ("EHOSTUNREACH", "EACCES"),
    RejectWith.ADDR_UNREACHABLE: ("EHOSTUNREACH", "EHOSTUNREACH"),
    RejectWith.POLICY_FAIL: ("EHOSTUNREACH", "EACCES"),
    RejectWith.REJECT_ROUTE: ("ENETUNREACH", "EACCES"),
}
"""What a UDP client sees of each answer: the errno of icmp_err_convert (net/ipv4/icmp.c) and icmpv6_err_convert."""


@each_backend
def test_every_answer_is_what_the_client_sees(lab: Lab, backend: Backend) -> None:
    seen = {}
    with udp_echo(lab.server, PORT):
        for answer in ANSWERS:
            with rejecting(lab, rules(backend), answer):
                seen[answer] = tuple(udp_ask(lab.client, lab.server.address(family), PORT).detail for family in (4, 6))
    assert seen == ANSWERS


@each_backend
@each_family
def test_a_strangers_hand_back_bits_are_dropped_before_the_queue(lab: Lab, backend: Backend, family: int) -> None:
    """14 is no answer's code: were it let through, anybody who sets marks could pass by."""
    table = "iptables-legacy" if backend is Backend.IPTABLES_LEGACY else "iptables-nft"
    name = table if family == 4 else f"ip6{table[2:]}"
    lab.gateway.run(name, "-t", "mangle", "-A", "PREROUTING", "-j", "MARK", "--set-mark", "0xe0000000")
    with udp_echo(lab.server, PORT) as served, rejecting(lab, rules(backend), RejectWith.PORT_UNREACHABLE):
        assert udp_ask(lab.client, lab.server.address(family), PORT, timeout=QUICK).outcome is Outcome.TIMED_OUT
        assert lab.gateway.queues()[0].last_id == 0
        assert served.collect(0) == 0


@each_backend
@each_family
def test_a_flow_that_was_let_through_is_exempt_and_a_new_one_is_rejected(
    lab: Lab, backend: Backend, family: int
) -> None:
    address = lab.server.address(family)
    with udp_echo(lab.server, PORT), lab.client.new_socket(FAMILIES[family], socket.SOCK_DGRAM) as flow:
        flow.settimeout(5.0)
        flow.connect((address, PORT))

        def ask(question: bytes) -> bytes:
            flow.send(question)
            return flow.recv(100)

        with lab.gateway.entered():  # nobody listens, and the rule is bypassed
            firewall.install(replace(rules(backend), bypass=True))
        assert ask(b"first") == b"first"
        with rejecting(lab, rules(backend), RejectWith.PORT_UNREACHABLE):
            assert ask(b"second") == b"second"
            assert lab.gateway.queues()[0].last_id == 0
            assert udp_ask(lab.client, address, PORT).outcome is Outcome.REFUSED
            assert lab.gateway.queues()[0].last_id == 1
