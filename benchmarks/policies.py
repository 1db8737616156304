"""The policies, generated: of any number of rules, always the same for the same numbers.

In every one the last rule, or the default, is the one that holds for the traffic of the arena; all before it are looked
at for nothing. In `header` a part of the rules holds for the flood's addresses and another for its ports and protocol,
so that no single field rules most of them out.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from pathlib import Path

from benchmarks.arena import FLOOD_PORTS, OTHER_PORT
from benchmarks.build import SCRATCH

CLIENT_NET, SERVER_NET = "192.0.2.0/24", "198.51.100.0/24"

_FLOOD = f"{FLOOD_PORTS[0]}-{FLOOD_PORTS[-1]}"
_LAST = f"  - {{id: last, match: {{saddr: [{CLIENT_NET}, {SERVER_NET}]}}, verdict: accept}}\n"


def flat(rules: int) -> Path:
    """Rule by rule what iptables and nft get too: a source address and a UDP port; none matches, the rest passes."""
    lines = (
        f"  - {{match: {{saddr: {source}, protocol: udp, dport: {port}}}, verdict: drop}}\n"
        for source, port in _pairs(rules)
    )
    return _write(f"flat-{rules}", _head("accept"), "rules:\n", *lines)


def flat_iptables(rules: int) -> str:
    """`flat` for iptables-restore."""
    lines = (f"-A FORWARD -s {source}/32 -p udp --dport {port} -j DROP\n" for source, port in _pairs(rules))
    return "".join(["*filter\n", *lines, "COMMIT\n"])


def flat_nft(rules: int) -> str:
    """`flat` for nft -f."""
    lines = (f"    ip saddr {source} udp dport {port} drop\n" for source, port in _pairs(rules))
    head = "table inet bench {\n  chain forward {\n    type filter hook forward priority 0; policy accept;\n"
    return "".join([head, *lines, "  }\n}\n"])


def header(rules: int, entries: int = 100_000, queues: int = 1) -> Path:
    """Prefixes, ports, port ranges and a set of `entries` addresses; the last rule accepts, the default drops."""
    name = f"header-{rules}-{entries}-{queues}"
    lines = map(_header_rule, range(rules - 1))
    return _write(name, _head(queues=queues), _blocklist(entries), "rules:\n", *lines, _LAST)


def payload(literals: int = 100, regexes: int = 20) -> Path:
    """Rules that look at what the packet carries, each for its own literal or pattern, none of which ever comes."""
    tests = [f"contains: 'X-Attack-{i:03}: run'" for i in range(literals)]
    tests += [f"regex: '(?i)token{i}=[a-f0-9]{{8,16}};[^;]*admin{i}'" for i in range(regexes)]
    lines = (f"  - {{match: {{payload: {{{test}}}}}, verdict: drop}}\n" for test in tests)
    return _write(f"payload-{literals}-{regexes}", _head(), "rules:\n", *lines, _LAST)


def scapy(*, asked: bool) -> Path:
    """1,000 header rules, and before them one for OTHER_PORT that, when `asked`, needs scapy."""
    condition = ", scapy.DNSQR.qname: {contains: tunnel}" if asked else ", length: {gt: 9000}"
    first = f"  - {{id: slow, match: {{protocol: udp, dport: {OTHER_PORT}{condition}}}, verdict: drop}}\n"
    rules = map(_header_rule, range(999))
    return _write(f"scapy-{asked}", _head(), _blocklist(100_000), "rules:\n", first, *rules, _LAST)


def generation(number: int, rules: int = 1_000) -> Path:
    """One of two policies to change between, 1 and 2. A packet that is judged by parts of both meets the default: drop.

    The first rule marks the packet with the policy's number, `rules` further the last wants that very mark.
    """
    lines = [
        f"  - {{id: first, mark: {{set: {number}, mask: 0xf}}}}\n",
        *map(_header_rule, range(rules)),
        f"  - {{id: last, match: {{mark: {number}/0xf}}, verdict: accept}}\n",
    ]
    return _write(f"generation-{number}-{rules}", _head(), _blocklist(1_000), "rules:\n", *lines)


def live(entries: int) -> Path:
    """A set that may change while packets flow, with so many addresses to begin with and room for more."""
    sets = _blocklist(entries, f", dynamic: true, size: {entries + 10_000}")
    rule = "  - {match: {saddr: $blocklist}, verdict: drop}\n"
    return _write(f"live-{entries}", _head(), sets, "rules:\n", rule, _LAST)


def capture(rules: int = 4) -> tuple[Path, str]:
    """A policy for `replay`, and the same as a libpcap filter: what the policy accepts is what the filter selects."""
    nets = [f"10.{number}.0.0/16" for number in range(rules)]
    lines = (f"  - {{match: {{saddr: {net}, protocol: udp, dport: 53}}, verdict: accept}}\n" for net in nets)
    chosen = " or ".join(f"(src net {net} and udp dst port 53)" for net in nets)
    return _write(f"capture-{rules}", _head(), "rules:\n", *lines), chosen


def addresses(count: int) -> Iterator[str]:
    """That many addresses that no range holds together, nine of IPv4 for one of IPv6; none is the arena's."""
    four, six = int(ipaddress.IPv4Address("10.0.0.0")), int(ipaddress.IPv6Address("2001:db8:bad::"))
    for number in range(count):
        if number % 10 == 9:
            yield str(ipaddress.IPv6Address(six + number * 65_537))
        else:
            yield str(ipaddress.IPv4Address(four + number * 7))


def _pairs(count: int) -> Iterator[tuple[str, int]]:
    first = int(ipaddress.IPv4Address("10.0.0.1"))
    return ((str(ipaddress.IPv4Address(first + 257 * i)), 1024 + i % 7_000) for i in range(count))


def _header_rule(number: int) -> str:
    """None holds for the arena: of each at least one condition fails, of three kinds only one."""
    port = 20_000 + number
    match number % 4:
        case 0:
            match_ = f"saddr: {ipaddress.IPv4Address((172 << 24) + (number << 8))}/24, protocol: udp"
        case 1:
            match_ = f"saddr: {CLIENT_NET}, protocol: udp, dport: {port}"
        case 2:
            match_ = f"daddr: {SERVER_NET}, protocol: [tcp, udp], sport: {number % 1_000}, dport: {port}-{port + 100}"
        case _:
            match_ = f"saddr: $blocklist, dport: [{_FLOOD}, {port}]"
    return f"  - {{match: {{{match_}}}, verdict: drop}}\n"


def _head(default: str = "drop", queues: int = 1) -> str:
    number = "0" if queues == 1 else f"0-{queues - 1}"
    return f"version: 1\ndefault: {{forward: {default}}}\nqueue: {{number: {number}}}\n"


def _blocklist(entries: int, more: str = "") -> str:
    file = SCRATCH / f"addresses-{entries}.txt"
    if not file.exists():
        file.write_text("".join(f"{address}\n" for address in addresses(entries)))
    return f"sets:\n  blocklist: {{type: address, file: {file.name}{more}}}\n"


def _write(name: str, *parts: str) -> Path:
    path = SCRATCH / f"{name}.yaml"
    path.write_text("".join(parts))
    return path
