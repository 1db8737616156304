"""What the demo's clients try, one after the other, and what rules/demo.yaml promises each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.lab.clients import QUICK, Outcome, curl, ping, resolve, scan, tcp_connect, udp_ask
from tests.lab.namespace import Host
from tests.lab.scan import PortState
from tests.lab.servers import dns_server, http_server, tcp_server, udp_echo
from tests.lab.topology import Lab

_NAME = "www.example.org"
_TUNNEL = f"{'ezpwayr7kfxg64tmmqqhi2dfebxgk3' * 2}.example.org"
_STRANGER = "203.0.113.9"
_PORTS = (21, 22, 23, 25, 80, 443, 8080)
_SCANNED = dict.fromkeys(_PORTS, PortState.FILTERED) | {23: PortState.CLOSED, 80: PortState.OPEN}


@dataclass(frozen=True, slots=True)
class Step:
    """One client's try, what it must see, and the logged verdict that must be shown for it."""

    says: str
    tries: Callable[[], object]
    sees: object
    verdict: str = ""
    """Empty, as `rule` is, where no rule with `log: true` decides."""
    rule: str = ""


@contextmanager
def services(server: Host) -> Iterator[None]:
    """What stands behind the gateway: what the policy lets in, and what it does not."""
    with (
        http_server(server, 80),
        tcp_server(server, 22, 23),
        udp_echo(server, 9),
        dns_server(server, {_NAME: [server.ipv4, server.ipv6]}),
    ):
        yield


def steps(lab: Lab) -> Iterator[Step]:
    """Both families where the rule is about what both have."""
    for make in (_ping, _fetch, _look_up, _telnet):
        for family in (4, 6):
            yield make(lab, family)
    yield _tunnel(lab)
    yield _spoof(lab)
    yield _nowhere(lab)
    yield _scan(lab)


def _spoof(lab: Lab) -> Step:
    # On the client's lo, so that the client's own kernel sends the packet that lies.
    lab.client.ip(f"address add {_STRANGER}/32 dev lo")
    return Step(
        f"asks {lab.server.ipv4} as {_STRANGER}, which is not its own",
        lambda: udp_ask(lab.client, lab.server.ipv4, 53, timeout=QUICK, bind=_STRANGER).outcome,
        Outcome.TIMED_OUT,
        "drop",
        "spoofed",
    )


def _ping(lab: Lab, family: int) -> Step:
    to = lab.server.address(family)
    return Step(f"ping {to}", lambda: ping(lab.client, to).outcome, Outcome.ANSWERED, "accept", "ping")


def _fetch(lab: Lab, family: int) -> Step:
    to = lab.server.address(family)
    url = f"http://{to}/" if family == 4 else f"http://[{to}]/"
    return Step(f"curl {url}", lambda: curl(lab.client, to).outcome, Outcome.CONNECTED, "accept", "web-opens")


def _look_up(lab: Lab, family: int) -> Step:
    to = lab.server.address(family)
    return Step(
        f"asks {to} for the {'A' if family == 4 else 'AAAA'} of {_NAME}",
        lambda: resolve(lab.client, to, _NAME, family).answer,
        to,
        "accept",
        "dns-ok",
    )


def _tunnel(lab: Lab) -> Step:
    return Step(
        f"asks {lab.server.ipv4} for the A of {_TUNNEL}",
        lambda: resolve(lab.client, lab.server.ipv4, _TUNNEL).outcome,
        Outcome.REFUSED,
        "reject",
        "dns-tunnel",
    )


def _telnet(lab: Lab, family: int) -> Step:
    to = lab.server.address(family)
    return Step(
        f"connects to TCP port 23 of {to}",
        lambda: tcp_connect(lab.client, to, 23).outcome,
        Outcome.REFUSED,
        "reject",
        "telnet",
    )


def _nowhere(lab: Lab) -> Step:
    return Step(
        f"sends to UDP port 9 of {lab.server.ipv4}, which no rule knows",
        lambda: udp_ask(lab.client, lab.server.ipv4, 9, timeout=QUICK).outcome,
        Outcome.TIMED_OUT,
    )


def _scan(lab: Lab) -> Step:
    return Step(
        f"scans {lab.server.ipv4} with scapy, TCP ports {', '.join(map(str, _PORTS))}",
        lambda: scan(lab.client, lab.server.ipv4, _PORTS),
        _SCANNED,
        "drop",
        "knock",
    )
