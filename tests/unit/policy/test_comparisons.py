"""One match key: the field, what the YAML says, and the Match or the message."""

from __future__ import annotations

import pytest

from qfilter.fields import FIELDS
from qfilter.model.match import (
    Addresses,
    AllMatch,
    AnyBit,
    AnyMatch,
    InSet,
    Masked,
    Match,
    NotMatch,
    Ranges,
    Text,
    TextLength,
    TextTest,
)
from qfilter.policy.comparisons import parse_value
from tests.unit.policy.reading import a_scope, node_of, said

LAN = Addresses(
    v4=((0xC0000200, 0xC00002FF),),
    v6=((0x20010DB8_0001_0000_0000000000000000, 0x20010DB8_0001_0000_FFFFFFFFFFFFFFFF),),
)
EQUALS, STARTS, CONTAINS = TextTest.EQUALS, TextTest.STARTS_WITH, TextTest.CONTAINS


@pytest.mark.parametrize(
    ("field", "text", "match"),
    [
        # numbers
        ("dport", "22", Ranges(((22, 22),))),
        ("dport", "'22'", Ranges(((22, 22),))),
        ("dport", "https", Ranges(((443, 443),))),
        ("dport", "1024-65535", Ranges(((1024, 65535),))),
        ("dport", "[22, 23, 80-90, http]", Ranges(((22, 23), (80, 90)))),
        ("dport", "$one", Ranges(((22, 22),))),
        ("dport", "[80, $one]", Ranges(((22, 22), (80, 80)))),
        ("dport", "$ports", InSet("ports")),
        ("dport", "[80, $ports, 81]", AnyMatch((Ranges(((80, 81),)), InSet("ports")))),
        ("dport", "{not: 22}", NotMatch(Ranges(((22, 22),)))),
        ("dport", "{not: [22, 80]}", NotMatch(Ranges(((22, 22), (80, 80))))),
        ("dport", "[22, {not: 80}]", AnyMatch((Ranges(((22, 22),)), NotMatch(Ranges(((80, 80),)))))),
        ("dport", "{lt: 1024}", Ranges(((0, 1023),))),
        ("dport", "{le: 1024}", Ranges(((0, 1024),))),
        ("dport", "{gt: 1024}", Ranges(((1025, 65535),))),
        ("dport", "{ge: 1024, lt: 2048}", Ranges(((1024, 2047),))),
        ("dport", "{ge: 1024, not: $ports}", AllMatch((Ranges(((1024, 65535),)), NotMatch(InSet("ports"))))),
        ("protocol", "[tcp, udp]", Ranges(((6, 6), (17, 17)))),
        ("protocol", "ipv6-icmp", Ranges(((58, 58),))),
        ("uid", "$numbers", InSet("numbers")),
        ("weekday", "monday", Ranges(((1, 1),))),
        ("tcp.options", "{not: maxseg}", NotMatch(Ranges(((2, 2),)))),
        # marks
        ("mark", "0x1", Ranges(((1, 1),))),
        ("mark", "0x1/0xff", Masked(1, 0xFF)),
        ("mark", "[0x1/0xff, 0]", AnyMatch((Ranges(((0, 0),)), Masked(1, 0xFF)))),
        ("mark", "{ge: 16}", Ranges(((16, 0xFFFFFFFF),))),
        # flags
        ("tcp.flags", "syn", AnyBit(2)),
        ("tcp.flags", "'syn,ack'", AnyBit(18)),
        ("tcp.flags", "[syn, ack]", AnyMatch((AnyBit(2), AnyBit(16)))),
        ("tcp.flags", "syn / fin,syn,rst,ack", Masked(2, 23)),
        ("tcp.flags", "none", Masked(0, 255)),
        ("tcp.flags", "none / fin,syn,rst,ack,psh,urg", Masked(0, 63)),
        ("tcp.flags", "0x12", AnyBit(18)),
        ("tcp.flags", "2/23", Masked(2, 23)),
        ("tcp.flags", "{not: SYN}", NotMatch(AnyBit(2))),
        # addresses
        ("saddr", "192.0.2.1", Addresses(v4=((0xC0000201, 0xC0000201),))),
        ("saddr", "$lan", LAN),
        ("saddr", "{not: $lan}", NotMatch(LAN)),
        ("saddr", "$hosts", InSet("hosts")),
        ("saddr", "[$lan, $seen]", AnyMatch((LAN, InSet("seen")))),
        ("saddr", "[192.0.2.128/25, 192.0.2.0/25]", Addresses(v4=LAN.v4)),
        # names
        ("iifname", "eth0", Text(EQUALS, b"eth0")),
        ("iifname", "eth*", Text(STARTS, b"eth")),
        ("iifname", "'0'", Text(EQUALS, b"0")),
        ("iifname", "{equals: 'eth*'}", Text(EQUALS, b"eth*")),
        ("iifname", "[lo, wg*]", AnyMatch((Text(EQUALS, b"lo"), Text(STARTS, b"wg")))),
        ("iifname", "$names", InSet("names")),
        ("iifname", "'$names'", Text(EQUALS, b"$names")),
        ("hwaddr", "02-00-5E-00-53-01", Text(EQUALS, b"02:00:5e:00:53:01")),
        ("hwaddr", "02:00:5E:*", Text(STARTS, b"02:00:5e:")),
        # bytes
        ("payload", "GET", Text(EQUALS, b"GET")),
        ("payload", "'GET*'", Text(EQUALS, b"GET*")),
        ("payload", "{contains: GET}", Text(CONTAINS, b"GET")),
        ("payload", "{contains: [GET, 'ä']}", AnyMatch((Text(CONTAINS, b"GET"), Text(CONTAINS, "ä".encode())))),
        ("payload", "{starts_with: GET, ends_with: '\\n'}", None),
        ("payload", "{regex: '^[^.]{50,}'}", Text(TextTest.REGEX, b"^[^.]{50,}")),
        ("payload", "{hex: 'de ad:BE ef'}", Text(CONTAINS, b"\xde\xad\xbe\xef")),
        ("payload", "{hex: 1234}", Text(CONTAINS, b"\x12\x34")),
        ("payload", "{length: 0-64}", TextLength(((0, 64),))),
        ("payload", "{length: {gt: 64}}", TextLength(((65, 65535),))),
        ("payload", "{length: {not: 0}}", NotMatch(TextLength(((0, 0),)))),
        ("payload", "{length: [1, 3]}", TextLength(((1, 1), (3, 3)))),
        ("payload", "{equals: ''}", Text(EQUALS, b"")),
        (
            "payload",
            "{starts_with: GET, length: 4, not: {contains: evil}}",
            AllMatch((Text(STARTS, b"GET"), TextLength(((4, 4),)), NotMatch(Text(CONTAINS, b"evil")))),
        ),
    ],
)
def test_values(field: str, text: str, match: Match | None) -> None:
    if match is None:
        match = AllMatch((Text(STARTS, b"GET"), Text(TextTest.ENDS_WITH, b"\\n")))
    scope = a_scope()
    assert (parse_value(FIELDS[field], node_of(text), scope), said(scope)) == (match, [])


@pytest.mark.parametrize(
    ("field", "text", "message"),
    [
        ("dport", "70000", "1:1 out-of-range: port 70000: expected 0 to 65535"),
        ("dport", "[22, htps]", "1:6 unknown-name: port 'htps': expected 0 to 65535 or a name (https)"),
        ("dport", "22.5", "1:1 unknown-name: port '22.5': expected 0 to 65535 or a name"),
        ("dport", "true", "1:1 wrong-type: the boolean 'true': expected 0 to 65535 or a name"),
        ("dport", "~", "1:1 wrong-type: nothing: expected 0 to 65535 or a name"),
        ("dport", "[]", "1:1 bad-value: dport: the list is empty: expected a value"),
        ("dport", "$nothing", "6:10 bad-value: dport: the list is empty: expected a value"),
        ("dport", "{}", "1:1 bad-value: dport: the mapping is empty: expected a comparison"),
        ("dport", "$undefined", "1:1 undefined: '$undefined' is not defined: expected a name of define: or sets:"),
        ("dport", "$hosts", "1:1 wrong-type: set 'hosts' has type address: dport takes a set of type port"),
        ("dport", "$numbers", "1:1 wrong-type: set 'numbers' has type number: dport takes a set of type port"),
        ("dport", "{contains: 22}", "1:2 wrong-form: 'contains' is no comparison of dport, which is a number"),
        ("dport", "{lte: 22}", "1:2 unknown-key: 'lte' is no comparison of dport"),
        ("dport", "{lt: 0}", "1:6 out-of-range: dport lt 0: no number is; expected one of 0 to 65535"),
        ("dport", "{gt: 65535}", "1:6 out-of-range: dport gt 65535: no number is"),
        ("dport", "{lt: 10, gt: 10}", "1:1 contradiction: dport: no number meets all of these comparisons"),
        ("dport", "{lt: [1]}", "1:6 wrong-type: a list: expected a number for 'lt'"),
        ("dport", "dicom", "1:1 ambiguous-name: port 'dicom': means 104 and 11112"),
        ("protocol", "ipip", "1:1 ambiguous-name: protocol 'ipip': means 94 and 4: expected '94' or 'ipencap'"),
        ("mark", "0x1ff/0xff", "1:1 contradiction: mark '0x1ff/0xff': bits of the value are outside the mask"),
        ("mark", "0x100000000", "1:1 out-of-range: mark 0x100000000: expected 0 to 4294967295"),
        ("tcp.flags", "sny", "1:1 unknown-name: tcp.flags 'sny': expected 0 to 255 or a name (syn)"),
        ("tcp.flags", "syn / fin", "1:1 contradiction: tcp.flags 'syn / fin'"),
        ("tcp.flags", "{lt: 4}", "1:2 wrong-form: 'lt' is no comparison of tcp.flags, which is a set of flags"),
        ("tcp.flags", "$numbers", "1:1 wrong-type: set 'numbers' has type number: tcp.flags takes no set"),
        ("saddr", "192.0.2.1/24", "1:1 host-bits: prefix '192.0.2.1/24'"),
        ("saddr", "[192.0.2.9-192.0.2.1]", "1:2 reversed-range: range '192.0.2.9-192.0.2.1'"),
        ("saddr", "fe80::1%eth0", "1:1 bad-value: address 'fe80::1%eth0'"),
        ("saddr", "::ffff:192.0.2.1", "1:1 bad-value: address '::ffff:192.0.2.1': IPv4-mapped"),
        ("saddr", "{gt: 192.0.2.1}", "1:2 wrong-form: 'gt' is no comparison of saddr, which is an address"),
        ("saddr", "$ports", "1:1 wrong-type: set 'ports' has type port: saddr takes a set of type address"),
        ("iifname", "0", "1:1 wrong-type: the number '0': expected a text; quotes make it a text ('0')"),
        ("iifname", "e*0", "1:1 bad-value: iifname 'e*0': '*' means any ending and can only stand last"),
        ("iifname", "averyverylongname", "1:1 out-of-range: iifname 'averyverylongname': names of interfaces have"),
        ("iifname", "'eth0, eth1'", "1:1 bad-value: iifname 'eth0, eth1': names of interfaces have no spaces, '/' or"),
        ("oifname", "{starts_with: 'br/'}", "1:15 bad-value: oifname 'br/': names of interfaces have no spaces"),
        ("hwaddr", "'02:00:5e'", "1:1 bad-value: hwaddr '02:00:5e': expected 6 or 8 bytes such as 02:00:5e:00:53:01"),
        ("hwaddr", "$cards", "1:1 bad-value: set 'cards' has '02-00-5E-00-53-01': hwaddr is lower-case"),
        ("payload", "{contains: ''}", "1:12 bad-value: contains '': everything matches it: expected a text"),
        ("payload", "{contains: []}", "1:12 bad-value: contains: the list is empty: expected a text"),
        ("payload", "{contains: 5}", "1:12 wrong-type: the number '5': expected a text for 'contains'"),
        ("payload", "{regex: '('}", "1:9 bad-regex: regex '(': missing ): ("),
        ("payload", "{regex: '(?=a)'}", "1:9 bad-regex: regex '(?=a)': invalid perl operator: (?="),
        ("payload", "{hex: 'de a'}", "1:7 bad-value: hex 'de a': expected 1 to 1024 bytes of two hex digits"),
        ("payload", "{length: 70000}", "1:10 out-of-range: length 70000: expected 0 to 65535"),
        ("payload", "{length: $numbers}", "1:10 wrong-type: a length cannot be looked up in a set"),
        ("payload", "{start_with: a}", "1:2 unknown-key: 'start_with' is no comparison of payload"),
    ],
)
def test_values_that_are_wrong(field: str, text: str, message: str) -> None:
    scope = a_scope()
    assert parse_value(FIELDS[field], node_of(text), scope) is None
    assert [one[: len(message)] for one in said(scope)] == [message]


def test_the_suggestion_for_a_comparison_that_is_misspelt() -> None:
    scope = a_scope()
    assert parse_value(FIELDS["payload"], node_of("{start_with: a}"), scope) is None
    assert said(scope)[0].endswith("(starts_with)")


def test_one_broken_definition_is_not_reported_twice() -> None:
    scope = a_scope()
    assert parse_value(FIELDS["dport"], node_of("$broken"), scope) is None
    assert said(scope) == []


def test_a_pattern_longer_than_the_limit() -> None:
    scope = a_scope()
    assert parse_value(FIELDS["payload"], node_of(f"{{regex: '{'a' * 5000}'}}"), scope) is None
    assert said(scope)[0].endswith("expected at most 4096 bytes")
