"""Both engines give a replay the same rows, byte for byte, and the same table, warnings and exit code."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from qfilter.cli.replay import command
from tests.fuzz.generated import examples, packets, sound_bytes
from tests.lab.process import ROOT
from tests.lab.service import qfilter as command_line
from tests.unit.cli.conftest import Command
from tests.unit.cli.test_replay import CORPUS, on_a_terminal
from tests.unit.queues.capture_files import (
    ARP,
    ECHO6,
    ETHERNET,
    SYN,
    block,
    enhanced,
    interface,
    option,
    pcap_header,
    pcap_record,
    section,
    simple,
)

RULES = r"""version: 1
default: {input: drop, forward: accept, output: drop}
on_failure: {fragment: accept}
sets:
  seen: {type: address, dynamic: true, timeout: 5, size: 3}
rules:
  - {id: named, match: {iifname: [lo, eth0, "\u202e"]}, log: {prefix: "in \"é"}}
  - {id: marks, match: {protocol: udp}, mark: {set: 1, mask: 15}, count: some, capture: {file: a.pcapng, max: 1 KiB}}
  - {id: asks, match: {scapy.DNSQR.qname: {contains: a}, mark: 1/15}, log: true, verdict: reject}
  - {id: learns, match: {protocol: tcp}, add: {set: seen, element: saddr, timeout: 2}}
  - {id: slow, match: {saddr: $seen, dport: 1-1024}, limit: {rate: 1/second, burst: 2, per: saddr}, verdict: accept}
  - {id: flow, match: {dport: 53}, scope: flow, verdict: reject tcp-reset}
  - {id: text, match: {payload: {contains: GET}}, log: true, verdict: drop}
  - {id: hours, match: {hour: 22, length: 100-65535}, verdict: {queue: 7}}
  - {id: inside, match: {inner.protocol: tcp, mark: 0/16}, mark: {set: 16, mask: 16}, verdict: repeat}
"""
DNS = bytes.fromhex(
    "4500003900010000401100000a0000010a00000204000035002500000001010000010000000000000161016200000100010000000000000000"
)
ZERO_PORT = bytes.fromhex("4500001c000100004011000000000000c0000201" + "0000003500080000")
MAPPED = bytes.fromhex(
    "6000000000083a40" + "00000000000000000000ffff0a000001" + "00000000000000000000ffff00000005" + "8000000000010001"
)
GONE = bytes.fromhex("6000000000002c40") + bytes(32)
TAGGED = ETHERNET + bytes.fromhex("8100000588a80006")
END = 253_402_300_800
LINKS = {
    0: struct.pack("<I", 2) + SYN,
    1: TAGGED + b"\x08\x00" + SYN + bytes(6),
    12: SYN,
    101: ECHO6,
    108: struct.pack(">I", 10) + ECHO6,
    113: struct.pack(">H", 4) + bytes(12) + b"\x86\xdd" + ECHO6,
    228: SYN,
    229: ECHO6,
    276: b"\x08\x00" + bytes(8) + b"\4" + bytes(9) + SYN,
    105: SYN,
}
"""A frame of each link type, the last of one without a reader."""
FRAMES = (SYN, ECHO6, DNS, ZERO_PORT, MAPPED, GONE, SYN[:30], b"", b"\x55", *LINKS.values())


def pcap(link_type: int, *frames: bytes, order: str = "<", nano: bool = False) -> bytes:
    step, second = (999_999_500, 10**9) if nano else (999_999, 10**6)
    times = ((1_700_000_000 + n, step * n % second) for n in range(len(frames)))
    records = (pcap_record(frame, order=order, at=at) for frame, at in zip(frames, times, strict=True))
    return pcap_header(link_type, order=order, nano=nano) + b"".join(records)


def named(name: bytes, *more: bytes, order: str = "<") -> bytes:
    return interface(101, order=order, options=option(2, name, order=order) + b"".join(more))


def pcapng(order: str) -> bytes:
    """Sections, interfaces with names and clocks of all kinds, blocks of other kinds, and times without a calendar."""
    seconds, offset = option(9, b"\0", order=order), option(14, struct.pack(order + "q", -3), order=order)
    clocks = (b"\x06", b"\x09", b"\x00", b"\x80", b"\xbf", b"\x7f", b"\xff")
    stamps = (0, 1, 2**40 + 12_345, 1_700_000_000_999_999_500, 2**63, END, END - 1, 2**64 - 1)
    first = (
        section(order=order)
        + named(b"eth0", order=order)
        + b"".join(
            enhanced(
                frame, order=order, stamp=1_700_000_000_000_000 + 499_999 * n, options=option(1, b"x", order=order)
            )
            for n, frame in enumerate(FRAMES)
        )
    )
    second = section(order=order) + named("\u202eé\x1b[2J\0".encode(), seconds, offset, order=order)
    second += named(b"\xff\xfe\xc3\0\0", order=order) + named(b"", order=order) + named(b"\0", order=order)
    second += b"".join(enhanced(SYN, order=order, number=n, stamp=7) for n in range(4))
    second += block(5, bytes(20), order=order) + simple(SYN, order=order)
    second += section(order=order) + interface(101, order=order, snap=40) + simple(ECHO6, order=order) * 2
    third = section(order=order)
    for clock in clocks:
        third += named(b"eth2", option(9, clock, order=order), order=order)
    for number in range(len(clocks)):
        third += b"".join(enhanced(DNS, order=order, number=number, stamp=stamp) for stamp in stamps)
    return first + second + third


CAPTURES = {
    **{f"link type {kind}": pcap(kind, frame, frame[:13], frame[:-7], b"") for kind, frame in LINKS.items()},
    "frames of all kinds": pcap(101, *FRAMES),
    "on Ethernet": pcap(1, *(ETHERNET + b"\x08\x00" + frame for frame in FRAMES), ETHERNET + b"\x08\x06" + ARP),
    "big endian": pcap(101, *FRAMES, order=">"),
    "nanoseconds": pcap(101, *FRAMES, nano=True),
    "no packets": pcap(101),
    "pcapng": pcapng("<"),
    "pcapng in big endian": pcapng(">"),
    "gzip": gzip.compress(pcapng("<")),
    "gzip that is cut": gzip.compress(pcap(101, *FRAMES * 30))[:-200],
    "longer than a block": pcap(101, *(frame + bytes(900) for frame in FRAMES * 12)),
    "longer than several": pcap(101, SYN, SYN + bytes(200_000), SYN, bytes(262_144), SYN),
    "too long": pcap(101, SYN, bytes(262_145), SYN),
    "an interface that is none": pcapng("<") + enhanced(SYN, number=9),
    "options that are cut": section() + named(b"eth0") + enhanced(SYN) + enhanced(SYN, options=b"\1\0\7\0"),
    "options that end": section() + named(b"eth0") + enhanced(SYN, options=bytes(4) + b"\1\0\7\0"),
    "two lengths": section() + named(b"eth0") + enhanced(SYN) + enhanced(SYN)[:-1] + b"\1",
    "no capture": b"version: 1\n",
}


@pytest.fixture
def rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("rules.yaml").write_text(RULES)
    return "rules.yaml"


def same(qfilter: Command, *words: object) -> str:
    """What both engines say to these words."""
    native, reference = (qfilter("replay", *words, "--engine", engine) for engine in ("native", "reference"))
    assert native == reference
    assert native.code in (0, 1)
    assert "rules.yaml:" not in native.err.partition("\n")[0]
    return native.out


@pytest.mark.parametrize("options", [(), ("--json",), ("--hook", "forward", "--oif", "lo")], ids=" ".join)
@pytest.mark.parametrize("name", CAPTURES)
def test_captures_of_all_kinds(qfilter: Command, rules: str, name: str, options: tuple[str, ...]) -> None:
    Path("a.pcap").write_bytes(CAPTURES[name])
    same(qfilter, rules, "a.pcap", *options)


def test_what_such_a_capture_says(qfilter: Command, rules: str) -> None:
    """Two equal outputs could both be empty."""
    Path("a.pcap").write_bytes(CAPTURES["pcapng"])
    rows = same(qfilter, rules, "a.pcap").splitlines()
    assert rows[0] == (
        "     1  22:13:20.000000  ACCEPT  input        eth0->-         tcp        "
        '192.0.2.1:1234 -> 198.51.100.7:22         rule       slow at rules.yaml:11:5 [in "é]'
    )
    assert rows[3].endswith("0.0.0.0:0 -> 192.0.2.1:53                 malformed  port-zero")
    assert rows[19].startswith("    20  00:00:04.000000  ACCEPT  input        \\u202eé\\x1b[2J->-  ")
    zero, ms = "00:00:00.000000", "00:00:00.000001"
    clocks = [zero, ms, "17:25:11.640121", zero, zero, "22:23:22.300800", "22:23:22.300799", zero]
    assert [row.split()[1] for row in rows if "eth2" in row][:8] == clocks


def test_every_cut(qfilter: Command, rules: str) -> None:
    for whole in (pcap(101, SYN, DNS), section() + named(b"eth0") + enhanced(SYN) + simple(SYN)):
        for end in range(0, len(whole), 3):
            Path("a.pcap").write_bytes(whole[:end])
            same(qfilter, rules, "a.pcap", "--json")


@examples(25)
@given(st.data())
def test_generated_captures(data: st.DataObject) -> None:
    frames = data.draw(st.lists(sound_bytes() | packets().map(lambda packet: packet.data), min_size=1, max_size=12))
    order = data.draw(st.sampled_from("<>"))
    times = st.integers(0, 2**32 - 1) | st.just(1_700_000_000)
    if data.draw(st.booleans()):
        capture = pcap_header(101, order=order, nano=data.draw(st.booleans()))
        for frame in frames:
            at = (data.draw(times), data.draw(times))
            capture += pcap_record(frame, order=order, at=at, original=len(frame) + data.draw(st.integers(0, 9)))
    else:
        capture = section(order=order)
        names = data.draw(st.lists(st.binary(max_size=9) | st.just(b"eth0"), min_size=1, max_size=3))
        for name in names:
            unit, offset = data.draw(st.binary(min_size=1, max_size=1)), data.draw(st.integers(-(2**63), 2**63 - 1))
            options = option(9, unit, order=order), option(14, struct.pack(order + "q", offset), order=order)
            capture += named(name, *data.draw(st.sampled_from([(), options[:1], options])), order=order)
        for frame in frames:
            number, stamp = data.draw(st.integers(0, len(names) - 1)), data.draw(st.integers(0, 2**64 - 1))
            capture += enhanced(frame, order=order, number=number, stamp=stamp)
    if data.draw(st.integers(0, 3)) == 0:
        damaged = bytearray(capture)
        damaged[data.draw(st.integers(0, len(capture) - 1))] ^= data.draw(st.integers(1, 255))
        capture = bytes(damaged)
    with TemporaryDirectory() as folder:
        rules, path = Path(folder, "rules.yaml"), Path(folder, "a.pcap")
        rules.write_text(RULES)
        path.write_bytes(capture)
        for form in ((), ("--json",)):
            words = [str(rules), str(path), *form, "--engine"]
            native, reference = (CliRunner().invoke(command, [*words, engine]) for engine in ("native", "reference"))
            assert (native.stdout, native.stderr, native.exit_code) == (
                reference.stdout,
                reference.stderr,
                reference.exit_code,
            )
            assert native.exit_code in (0, 1)
            assert isinstance(native.exception, SystemExit | None)


def test_colours(rules: str) -> None:
    Path("a.pcap").write_bytes(CAPTURES["frames of all kinds"])
    native, reference = (
        on_a_terminal(*command_line("replay", rules, "a.pcap", "--engine", engine))
        for engine in ("native", "reference")
    )
    assert "\x1b[2m22:13:20.000000\x1b[0m" in native
    assert native == reference


@pytest.mark.skipif(not CORPUS.exists(), reason=f"{CORPUS} is not there")
@pytest.mark.parametrize("options", [(), ("--json",)], ids=" ".join)
def test_the_corpus(qfilter: Command, options: tuple[str, ...]) -> None:
    rows = same(qfilter, ROOT / "rules" / "demo.yaml", CORPUS, "--hook", "forward", "--iif", "eth0", *options)
    assert rows.count("\n") > 5_452 - bool(options)
