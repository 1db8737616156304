"""Events to pipes that nobody reads, to full disks and to files that were moved away."""

from __future__ import annotations

import errno
import os
import resource
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qfilter.events.record import Event
from qfilter.events.sinks import FileSink, StreamSink
from qfilter.events.writer import Outcome, Writer
from tests.unit.events.samples import belong_to


def text(event: Event) -> bytes:
    return f"{event['text']}\n".encode()


def lost(count: int) -> Event:
    return {"text": f"lost {count}"}


def events(*texts: str) -> list[Event]:
    return [{"text": each} for each in texts]


class Pipe:
    """A pipe whose reader is the test."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()

    def fill(self) -> int:
        """Until not a byte more fits."""
        os.set_blocking(self.writer, False)
        size = 0
        try:
            while True:
                size += os.write(self.writer, bytes(1 << 16))
        except BlockingIOError:
            os.set_blocking(self.writer, True)
            return size

    def read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            data += os.read(self.reader, size - len(data))
        return data


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    for descriptor in (pipe.reader, pipe.writer):
        try:
            os.close(descriptor)
        except OSError as error:
            assert error.errno == errno.EBADF  # noqa: PT017 a test may have closed it


def test_a_stream(pipe: Pipe) -> None:
    writer = Writer(StreamSink(pipe.writer, text), lost=lost)
    for event in events("a", "b"):
        writer.put(event)
    assert writer.close(timeout=60) == Outcome(2, 0, "")
    assert pipe.read(4) == b"a\nb\n"
    assert os.write(pipe.writer, b"x") == 1, "the stream is not ours to close"


def test_a_reader_that_stalls_and_comes_back(pipe: Pipe) -> None:
    filled = pipe.fill()
    writer = Writer(StreamSink(pipe.writer, text), capacity=2, lost=lost)
    for event in events("a", "b", "c", "d", "e"):
        writer.put(event)
    early = writer.outcome
    assert early.written == 0
    assert early.lost in (2, 3), "the thread holds one, the queue two"
    pipe.read(filled)
    assert writer.close(timeout=60) == Outcome(5 - early.lost, early.lost, "")
    told = "abc"[: 5 - early.lost]
    expected = "".join(f"{each}\n" for each in told) + f"lost {early.lost}\n"
    assert pipe.read(len(expected)) == expected.encode()


def test_a_reader_that_never_comes_back(pipe: Pipe) -> None:
    pipe.fill()
    writer = Writer(StreamSink(pipe.writer, text), lost=lost)
    for event in events("a", "b", "c"):
        writer.put(event)
    assert writer.close(timeout=0, grace=60) == Outcome(0, 3, "[Errno 125] closed before it could be written")


def test_a_line_longer_than_a_pipe(pipe: Pipe) -> None:
    line = "x" * 300_000
    writer = Writer(StreamSink(pipe.writer, text), lost=lost)
    writer.put({"text": line})
    assert pipe.read(300_001) == line.encode() + b"\n"
    assert writer.close(timeout=60) == Outcome(1, 0, "")


def test_a_reader_that_is_gone(pipe: Pipe) -> None:
    os.close(pipe.reader)
    writer = Writer(StreamSink(pipe.writer, text), lost=lost)
    for event in events("a", "b"):
        writer.put(event)
    assert writer.close(timeout=60) == Outcome(0, 2, "[Errno 32] Broken pipe")


def test_a_full_disk() -> None:
    writer = Writer(FileSink("/dev/full", text), lost=lost)
    for event in events("a", "b", "c"):
        writer.put(event)
    assert writer.close(timeout=60) == Outcome(0, 3, "[Errno 28] No space left on device")


def test_a_disk_that_has_room_again(tmp_path: Path) -> None:
    """The name leads to a full device first, then to a file: what was lost is told before the first that fits."""
    path = tmp_path / "events"
    path.symlink_to("/dev/full")
    writer = Writer(FileSink(path, text), lost=lost)
    for event in events("a", "b"):
        writer.put(event)
    # the writer has to have failed before the name changes; its thread takes the entries in their order
    marker = threading.Event()
    (tmp_path / "new").touch()
    writer.put(_Marked(marker))
    assert marker.wait(10)
    (tmp_path / "new").replace(path)
    writer.reopen()
    writer.put({"text": "c"})
    assert writer.close(timeout=60) == Outcome(1, 3, "[Errno 28] No space left on device")
    assert path.read_bytes() == b"lost 3\nc\n"


class _Marked(dict[str, object]):
    """An event that says when it is rendered."""

    def __init__(self, marker: threading.Event) -> None:
        super().__init__()
        self._marker = marker

    def __getitem__(self, _: str) -> object:
        self._marker.set()
        return "marked"


def test_a_line_that_was_torn_is_not_continued_by_the_next(tmp_path: Path) -> None:
    """A file size limit of the process stands for the full disk: it cuts a line, refuses the next, and is lifted."""
    path = tmp_path / "events"
    sink = FileSink(path, text)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        sink.write({"text": "first"})
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
        for refused in ("second", "third"):
            with pytest.raises(OSError, match="File too large"):
                sink.write({"text": refused})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    sink.write({"text": "fourth"})
    sink.write({"text": "fifth"})
    sink.close()
    sink.close()
    assert path.read_bytes() == b"first\nseco\nfourth\nfifth\n"


def test_a_file_is_continued_and_private(tmp_path: Path) -> None:
    path = tmp_path / "events.json"
    for each in ("a", "b"):
        writer = Writer(FileSink(path, text), lost=lost)
        writer.put({"text": each})
        writer.close(timeout=60)
    assert path.read_bytes() == b"a\nb\n"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_that_was_moved_away(tmp_path: Path) -> None:
    path, old = tmp_path / "events.json", tmp_path / "events.json.1"
    writer = Writer(FileSink(path, text), lost=lost)
    path.rename(old)
    writer.put({"text": "a"})
    writer.reopen()
    writer.put({"text": "b"})
    assert writer.close(timeout=60) == Outcome(2, 0, "")
    assert (old.read_bytes(), path.read_bytes()) == (b"a\n", b"b\n")


def test_a_file_that_cannot_be_opened_again_is_written_on(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    writer = Writer(FileSink(folder / "events", text), lost=lost)
    folder.rename(tmp_path / "moved")
    writer.reopen()
    writer.put({"text": "a"})
    outcome = writer.close(timeout=60)
    assert (outcome.written, outcome.lost) == (1, 0)
    assert outcome.error == f"[Errno 2] No such file or directory: '{folder}/events'"
    assert (tmp_path / "moved/events").read_bytes() == b"a\n"


@pytest.mark.parametrize(
    ("make", "message"),
    [(os.mkdir, "Is a directory"), (os.mkfifo, "No such device or address")],
    ids=["folder", "FIFO"],
)
def test_a_file_that_cannot_be_opened(tmp_path: Path, make: Callable[[Path], None], message: str) -> None:
    """A FIFO has no reader; with one it is written like a pipe."""
    make(tmp_path / "events")
    with pytest.raises(OSError, match=message):
        FileSink(tmp_path / "events", text)


def test_a_fifo_with_a_reader(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "events")
    reader = os.open(tmp_path / "events", os.O_RDONLY | os.O_NONBLOCK)
    writer = Writer(FileSink(tmp_path / "events", text), lost=lost)
    writer.put({"text": "a"})
    assert writer.close(timeout=60) == Outcome(1, 0, "")
    assert os.read(reader, 10) == b"a\n"
    os.close(reader)


def test_a_file_that_another_user_made_gets_no_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "events"
    path.touch(0o666)
    belong_to(65533, monkeypatch)
    with pytest.raises(OSError, match=f"{path} belongs to user 65533: expected root's, or of the user who runs"):
        FileSink(path, text)
    for user in (0, os.geteuid()):
        belong_to(user, monkeypatch)
        FileSink(path, text).close()


def test_a_file_that_another_user_put_in_its_place_gets_no_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "events"
    writer = Writer(FileSink(path, text), lost=lost)
    path.rename(tmp_path / "old")
    path.touch(0o666)
    belong_to(65533, monkeypatch)
    writer.reopen()
    writer.put({"text": "a"})
    assert "belongs to user 65533" in writer.close(timeout=60).error
    assert ((tmp_path / "old").read_bytes(), path.read_bytes()) == (b"a\n", b"")


@pytest.mark.parametrize("path", ["/dev/null", "/dev/stdout", "/dev/fd/2", "fifo"])
def test_what_is_no_file_of_its_own_may_be_anybodys(
    tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """As `sudo qfilter ... --events /dev/stdout >file`, where the file is of who called sudo."""
    monkeypatch.chdir(tmp_path)
    os.mkfifo("fifo")
    reader = os.open("fifo", os.O_RDONLY | os.O_NONBLOCK)
    belong_to(65533, monkeypatch)
    writer = Writer(FileSink(path, text), lost=lost)
    writer.put({"text": "a"})
    assert writer.close(timeout=60) == Outcome(1, 0, "")
    said = "".join(capfd.readouterr()) + os.read(reader, 10).decode()
    assert said == ("" if path == "/dev/null" else "a\n")
    os.close(reader)
