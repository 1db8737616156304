"""Captured packets: what readers of pcapng see, limits to the byte, and files that must not be written."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.utils import RawPcapNgReader

from qfilter.events.captures import CaptureSink, Seen
from qfilter.events.writer import Outcome, Writer
from qfilter.model.hook import Hook
from qfilter.model.verdict import ACCEPT, DROP, Captured, Reason, Verdict
from qfilter.queues.captures import CapturedPacket, read_capture
from tests.unit.events.samples import AT, NOW, SYN, belong_to, packet

UNLIMITED = 1 << 30


def verdict(*files: str, limit: int = UNLIMITED) -> Verdict:
    return Verdict(DROP, Reason.RULE, "ssh", AT, effects=tuple(Captured("watch", file, limit) for file in files))


def seen(file: str = "a", limit: int = UNLIMITED, **changes: object) -> Seen:
    return Seen(packet(**changes), verdict(file, limit=limit), NOW)  # type: ignore[arg-type]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    sink = CaptureSink(tmp_path)
    sink.write(seen(hook=Hook.INPUT, oifname=None))
    sink.write(seen(hook=Hook.OUTPUT, iifname=None, wire_length=1_500, data=SYN[:33]))
    sink.write(seen(timestamp=None))
    sink.write(seen(iifname=None, oifname=None, timestamp=-1.0))
    sink.close()
    assert list(read_capture(tmp_path / "a")) == [
        CapturedPacket(
            n=1, data=SYN, wire_length=40, timestamp_ns=1_000_000_000_500_000_000, interface="eth0", outbound=False
        ),
        CapturedPacket(
            n=2,
            data=SYN[:33],
            wire_length=1_500,
            timestamp_ns=1_000_000_000_500_000_000,
            interface="eth1",
            outbound=True,
        ),
        CapturedPacket(n=3, data=SYN, wire_length=40, timestamp_ns=1_700_000_000_000_000_000, interface="eth0"),
        CapturedPacket(n=4, data=SYN, wire_length=40, timestamp_ns=1_700_000_000_000_000_000),
    ]
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600


def test_others_read_the_same(tmp_path: Path) -> None:
    sink = CaptureSink(tmp_path)
    sink.write(seen())
    sink.write(Seen(packet(), Verdict(ACCEPT, Reason.DEFAULT, effects=(Captured("all", "a", UNLIMITED),)), NOW))
    sink.close()
    with RawPcapNgReader(str(tmp_path / "a")) as reader:
        read: list[tuple[bytes, Any]] = list(reader)
    assert [data for data, _ in read] == [SYN, SYN]
    assert [(meta.linktype, meta.wirelen, meta.ifname) for _, meta in read] == [(101, 40, b"eth0")] * 2
    assert [meta.comments for _, meta in read] == [
        [b"captured by watch; drop by rule ssh at rules/web.yaml:12:9"],
        [b"captured by all; accept by default"],
    ]
    if shutil.which("tcpdump"):
        command = ["tcpdump", "-nn", "-r", str(tmp_path / "a")]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        assert [line.split(" ", 1)[1] for line in printed] == [
            "IP 192.0.2.1.1234 > 198.51.100.7.22: Flags [S], seq 0, win 65535, length 0"
        ] * 2


def size_of(*packets: Seen, folder: Path) -> int:
    folder.mkdir()
    sink = CaptureSink(folder)
    for each in packets:
        sink.write(each)
    sink.close()
    return (folder / "a").stat().st_size


def test_the_limit_is_kept_to_the_byte(tmp_path: Path) -> None:
    two = size_of(seen(), seen(), folder=tmp_path / "measure")
    for limit, count in ((two, 2), (two - 1, 1)):
        folder = tmp_path / str(limit)
        folder.mkdir()
        sink = CaptureSink(folder)
        for _ in range(4):
            sink.write(seen(limit=limit))
        sink.write(seen(limit=limit, data=SYN[:20]))  # would fit where two did not; a capture has no holes
        sink.close()
        assert len(list(read_capture(folder / "a"))) == count
        assert (folder / "a").stat().st_size <= limit
        assert sink.left_out == Counter({"a": 5 - count})


def test_a_limit_below_one_packet_leaves_an_empty_file(tmp_path: Path) -> None:
    sink = CaptureSink(tmp_path)
    sink.write(seen(limit=10))
    sink.close()
    assert (tmp_path / "a").read_bytes() == b""


@given(
    sizes=st.lists(st.integers(0, 300), max_size=12),
    limit=st.integers(0, 2_000),
    names=st.lists(st.text(st.characters(codec=None), max_size=15), min_size=1, max_size=3),
)
def test_no_sequence_of_packets_passes_the_limit(
    sizes: list[int], limit: int, names: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("captures")
    sink = CaptureSink(folder)
    for n, size in enumerate(sizes):
        sink.write(seen(limit=limit, data=bytes(size), wire_length=size, iifname=names[n % len(names)]))
    sink.close()
    if sizes:
        assert (folder / "a").stat().st_size <= limit
    if sizes and (folder / "a").stat().st_size:
        read = list(read_capture(folder / "a"))
        assert [len(each.data or b"") for each in read] == sizes[: len(read)]
        assert sink.left_out["a"] == len(sizes) - len(read)


def test_a_file_that_is_there_is_continued(tmp_path: Path) -> None:
    for _ in range(2):
        sink = CaptureSink(tmp_path)
        sink.write(seen())
        sink.close()
    size = (tmp_path / "a").stat().st_size
    assert [each.n for each in read_capture(tmp_path / "a")] == [1, 2]
    sink = CaptureSink(tmp_path)
    sink.write(seen(limit=size))
    sink.close()
    assert (tmp_path / "a").stat().st_size == size
    assert sink.left_out == Counter({"a": 1})


def test_a_file_that_was_moved_away(tmp_path: Path) -> None:
    writer = Writer(CaptureSink(tmp_path))
    writer.put(seen())
    writer.reopen()
    writer.put(seen("b"))
    assert writer.close(timeout=60) == Outcome(2, 0, "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


@pytest.mark.parametrize("name", ["", ".", "..", "../a", "/tmp/a", "b/a", "a\0b"])
def test_a_file_has_no_folders_in_its_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/b").mkdir()
    sink = CaptureSink(tmp_path / "in")
    with pytest.raises(OSError, match="expected a name without folders"):
        sink.write(seen(name))
    sink.close()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["b", "in"]


def test_what_must_not_be_written(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "in", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.touch()
    (folder / "link").symlink_to(elsewhere)
    os.mkfifo(folder / "fifo")
    (folder / "folder").mkdir()
    (folder / "text").write_text("precious\n")
    writer = Writer(CaptureSink(folder))
    for name in ("link", "fifo", "folder", "text"):
        writer.put(seen(name))
    writer.put(seen("good"))
    outcome = writer.close(timeout=60)
    assert (outcome.written, outcome.lost) == (1, 4)
    assert outcome.error == "[Errno 22] capture file 'text': expected none, or a pcapng file"
    assert elsewhere.read_bytes() == b""
    assert (folder / "text").read_text() == "precious\n"


@pytest.mark.parametrize("user", [0, os.geteuid(), 65533])
def test_a_file_that_another_user_made_gets_no_packets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: int
) -> None:
    (tmp_path / "a").touch(0o666)
    sink = CaptureSink(tmp_path)
    belong_to(user, monkeypatch)
    if user == 65533:
        expected = "capture file 'a' belongs to user 65533: expected root's, or of the user who runs qfilter"
        with pytest.raises(OSError, match=expected):
            sink.write(seen())
    else:
        sink.write(seen())
    sink.close()
    assert bool((tmp_path / "a").read_bytes()) is (user != 65533)


def test_one_file_that_fails_does_not_keep_the_packet_from_the_other(tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    sink = CaptureSink(tmp_path)
    with pytest.raises(OSError, match="Is a directory"):
        sink.write(Seen(packet(), verdict("bad", "good"), NOW))
    sink.close()
    assert len(list(read_capture(tmp_path / "good"))) == 1


def test_a_full_disk_leaves_no_half_of_a_block(tmp_path: Path) -> None:
    """A file size limit of the process stands for the full disk: the write is cut, then refused."""
    one = size_of(seen(), folder=tmp_path / "measure")
    sink = CaptureSink(tmp_path)
    sink.write(seen())
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (one + 50, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            sink.write(seen())
        assert (tmp_path / "a").stat().st_size == one
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    sink.write(seen())
    sink.close()
    assert [each.n for each in read_capture(tmp_path / "a")] == [1, 2]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        CaptureSink(tmp_path / "absent")


def test_cancelled_and_closed(tmp_path: Path) -> None:
    sink = CaptureSink(tmp_path)
    sink.cancel()
    with pytest.raises(OSError, match="closed before it could be written"):
        sink.write(seen())
    sink.close()
    sink.close()
    assert list(tmp_path.iterdir()) == []
