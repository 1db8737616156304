"""The server against clients of every kind, over real sockets, and a service that is made up."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import starmap
from pathlib import Path

import pytest

from qfilter.control import client, server
from qfilter.control.client import ControlClient
from qfilter.control.codec import MAX_REQUEST, decode_answer, encode_request
from qfilter.control.messages import (
    Change,
    Changed,
    ChangeSet,
    ElementState,
    GetElements,
    GetStatus,
    Refused,
    Reload,
    Reloaded,
    Sets,
    SetState,
    Stats,
    Status,
)
from qfilter.control.place import listening
from qfilter.control.server import MAX_CLIENTS, PAGE, ControlServer
from qfilter.engine.reference import ReferenceEngine
from qfilter.errors import ControlError, PolicyError
from qfilter.policy.load import loads
from tests.lab.process import wait_until
from tests.unit.control.values import ANSWERS, MISTAKE, TEXT


class MadeUp:
    """A service that remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[object] = []
        self.elements_ = [ElementState("192.0.2.1", True, 5.0)]
        self.go_on = threading.Event()
        self.go_on.set()

    def ask_reload(self, path: str | None, tell: Callable[[Reloaded | Refused], None]) -> None:
        self.asked.append(path)

        def reload() -> None:
            self.go_on.wait(10.0)
            wrong = Refused(problem="", diagnostics=(MISTAKE,))
            done = Reloaded(file=path or "p.yaml", digest="ab", changes=("rule a added",), warnings=())
            for _ in range(2):  # twice, as it may be
                tell(wrong if path == "/wrong.yaml" else done)

        threading.Thread(target=reload).start()

    def status(self) -> Status:
        return next(answer for answer in ANSWERS if isinstance(answer, Status))

    def stats(self) -> Stats:
        return Stats(report=ReferenceEngine(loads(TEXT, "p.yaml")).report(), queues=(), events_lost=0, events_error="")

    def sets(self) -> Sets:
        raise ZeroDivisionError("a fault")

    def elements(self, name: str) -> Iterator[ElementState] | Refused:
        return iter(self.elements_) if name == "bad" else Refused(problem=f"set {name!r}: expected bad")

    def change_set(self, change: ChangeSet) -> Changed | Refused:
        self.asked.append(change)
        return Changed(count=len(change.elements))


@pytest.fixture
def place() -> Iterator[Path]:
    """In a folder that nobody else can write to."""
    folder = Path("/run" if os.geteuid() == 0 else Path.home()) / f"qfilter-test-{os.getpid()}"
    folder.mkdir(mode=0o700)
    yield folder / "s"
    for left in folder.iterdir():
        left.unlink()
    folder.rmdir()


@pytest.fixture
def service() -> MadeUp:
    return MadeUp()


@contextmanager
def served(place: Path, service: MadeUp, patience: float = 5.0) -> Iterator[ControlServer]:
    with listening(place) as listener:
        running = ControlServer(listener, service, patience=patience)
        try:
            yield running
        finally:
            running.close()


def connected(place: Path) -> socket.socket:
    raw = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    raw.connect(str(place))
    raw.settimeout(10.0)
    return raw


@contextmanager
def connected_to(place: Path, service: MadeUp) -> Iterator[tuple[ControlServer, socket.socket]]:
    with served(place, service) as running, connected(place) as raw:
        yield running, raw


def receive_line(raw: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\n") and (piece := raw.recv(1)):
        line += piece
    return line


def test_a_conversation(place: Path, service: MadeUp) -> None:
    with served(place, service), ControlClient(place) as asking:
        assert asking.reload().file == "p.yaml"
        assert asking.reload("/p.yaml").changes == ("rule a added",)
        assert asking.status().process == 7
        assert [rule.rule for rule in asking.stats().report.rules] == ["bad", "lan"]
        assert list(asking.elements("bad")) == service.elements_
        assert asking.add("bad", ["192.0.2.1", "192.0.2.2"], 5.0) == Changed(count=2)
        assert asking.delete("bad", ["192.0.2.1"]) == Changed(count=1)
        assert asking.flush("bad") == Changed(count=0)
    assert service.asked == [
        None,
        "/p.yaml",
        ChangeSet(set="bad", change=Change.ADD, elements=("192.0.2.1", "192.0.2.2"), timeout=5.0),
        ChangeSet(set="bad", change=Change.DELETE, elements=("192.0.2.1",)),
        ChangeSet(set="bad", change=Change.FLUSH),
    ]


def test_a_relative_path_is_the_clients(place: Path, service: MadeUp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/usr")
    with served(place, service), ControlClient(place) as asking:
        asking.reload("p.yaml")
    assert service.asked == ["/usr/p.yaml"]


def test_refusals_are_errors_of_the_client(place: Path, service: MadeUp) -> None:
    with served(place, service), ControlClient(place) as asking:
        with pytest.raises(PolicyError) as refused:
            asking.reload("/wrong.yaml")
        assert refused.value.diagnostics == (MISTAKE,)
        with pytest.raises(ControlError, match="set 'x': expected bad"):
            list(asking.elements("x"))
        with pytest.raises(ControlError, match="a fault of qfilter's own: ZeroDivisionError: a fault"):
            asking.sets()
        assert asking.status().process == 7


@pytest.mark.parametrize("count", [0, 1, PAGE, PAGE + 1, 3 * PAGE])
def test_a_set_comes_in_pages(place: Path, service: MadeUp, count: int) -> None:
    service.elements_ = list(starmap(ElementState, ((f"{n}", True, None) for n in range(count))))
    with served(place, service), ControlClient(place) as asking:
        assert list(asking.elements("bad")) == service.elements_
        assert asking.status().process == 7


def test_many_elements_go_in_several_requests(place: Path, service: MadeUp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_BATCH", 30)
    elements = [f"192.0.2.{n}" for n in range(10)]
    with served(place, service), ControlClient(place) as asking:
        assert asking.add("bad", elements) == Changed(count=10)
    sent = [change.elements for change in service.asked if isinstance(change, ChangeSet)]
    assert [element for batch in sent for element in batch] == elements
    assert {len(batch) for batch in sent} == {2}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"GET / HTTP/1.1\r\n", "invalid JSON"),
        (b"\n", "invalid JSON"),
        (b'{"version":1,"message":{"kind":"stop"}}\n', "input tag 'stop'"),
    ],
)
def test_garbage_is_answered_and_the_connection_goes_on(place: Path, service: MadeUp, line: bytes, said: str) -> None:
    with served(place, service), connected(place) as raw:
        raw.sendall(line)
        answer = decode_answer(receive_line(raw))
        assert isinstance(answer, Refused)
        assert said in answer.problem
        raw.sendall(encode_request(GetStatus()))
        assert isinstance(decode_answer(receive_line(raw)), Status)


def test_a_request_in_pieces_and_several_in_one(place: Path, service: MadeUp) -> None:
    line = encode_request(GetStatus())
    with served(place, service), connected(place) as raw:
        for byte in line:
            raw.send(bytes([byte]))
        assert isinstance(decode_answer(receive_line(raw)), Status)
        raw.sendall(line * 3 + line[:-1])
        assert [type(decode_answer(receive_line(raw))) for _ in range(3)] == [Status] * 3
        raw.sendall(b"\n")
        assert isinstance(decode_answer(receive_line(raw)), Status)


def test_an_endless_request_ends_the_connection(place: Path, service: MadeUp) -> None:
    with served(place, service), connected(place) as raw:
        raw.sendall(b"x" * (MAX_REQUEST + 1))
        answer = decode_answer(receive_line(raw))
        assert isinstance(answer, Refused)
        assert "expected at most 1048576" in answer.problem
        assert raw.recv(1) == b""


def half(raw: socket.socket) -> None:
    raw.sendall(encode_request(GetStatus())[:-5])


def silent(_: socket.socket) -> None:
    """Says nothing at all."""


def deaf(raw: socket.socket) -> None:
    raw.sendall(encode_request(GetElements(set="bad")))


@pytest.mark.parametrize("behaves", [silent, half, deaf])
def test_a_client_that_does_nothing_loses_its_connection(
    place: Path, service: MadeUp, behaves: Callable[[socket.socket], None]
) -> None:
    service.elements_ = [ElementState("x" * 4_000, True)] * (4 * PAGE)
    with served(place, service, patience=0.3) as running, connected(place) as raw:
        behaves(raw)
        wait_until(lambda: len(running._clients) == 1, "it should be accepted")
        wait_until(lambda: not running._clients, "it should be dropped")
        with ControlClient(place) as asking:
            assert asking.status().process == 7


def test_a_hundred_that_hang_leave_room_for_one_that_asks(place: Path, service: MadeUp) -> None:
    with served(place, service) as running:
        hanging = [connected(place) for _ in range(100)]
        with ControlClient(place) as asking:
            assert asking.status().process == 7
            assert len(running._clients) <= MAX_CLIENTS
        for raw in hanging:
            raw.close()


def test_while_policies_are_read_others_are_answered(place: Path, service: MadeUp) -> None:
    service.go_on.clear()
    with served(place, service), connected(place) as first, connected(place) as second, ControlClient(place) as asking:
        for raw, path in [(first, "/1.yaml"), (second, "/2.yaml")]:
            raw.sendall(encode_request(Reload(path=path)) + encode_request(GetStatus()))
            wait_until(lambda: f"{service.asked[-1:]}" == f"['{path}']", "the reload should have begun")  # noqa: B023
        assert asking.status().process == 7
        assert asking.add("bad", ["192.0.2.1"], 5.0) == Changed(count=1)
        service.go_on.set()
        for raw, path in [(first, "/1.yaml"), (second, "/2.yaml")]:
            answer = decode_answer(receive_line(raw))
            assert isinstance(answer, Reloaded)
            assert answer.file == path
            assert isinstance(decode_answer(receive_line(raw)), Status), "what was asked behind it comes behind it"


def test_who_waits_for_a_reload_keeps_the_connection(place: Path, service: MadeUp) -> None:
    service.go_on.clear()
    with served(place, service, patience=0.1) as running, connected(place) as raw:
        raw.sendall(encode_request(Reload()))
        wait_until(lambda: service.asked == [None], "the reload should have begun")
        with connected(place):
            wait_until(lambda: len(running._clients) == 2, "another one should be accepted")
            wait_until(lambda: len(running._clients) == 1, "that one should be dropped")
        service.go_on.set()
        assert isinstance(decode_answer(receive_line(raw)), Reloaded)


def test_a_client_that_went_while_it_waited_is_forgotten(place: Path, service: MadeUp) -> None:
    service.go_on.clear()
    with served(place, service) as running:
        with connected(place) as raw:
            raw.sendall(encode_request(Reload()))
            wait_until(lambda: service.asked == [None], "the reload should have begun")
        service.go_on.set()
        wait_until(lambda: not running._clients, "it should be dropped")
        with ControlClient(place) as asking:
            assert asking.status().process == 7


def test_at_the_end_who_waits_for_a_reload_is_told_that_it_will_not_come(place: Path, service: MadeUp) -> None:
    service.go_on.clear()
    with connected_to(place, service) as (running, raw):
        raw.sendall(encode_request(Reload()))
        wait_until(lambda: service.asked == [None], "the reload should have begun")
        running.close()
        answer = decode_answer(receive_line(raw))
        assert answer == Refused(problem="the service stops: nothing was changed")
        assert raw.recv(1) == b""
        service.go_on.set()


def test_another_user_is_not_listened_to(place: Path, service: MadeUp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "trusted", lambda _: False)
    with served(place, service), connected(place) as raw:
        with suppress(BrokenPipeError):
            raw.sendall(encode_request(Reload()))
        with suppress(ConnectionResetError):
            assert raw.recv(1) == b""
    assert service.asked == []


def test_another_users_service_is_not_asked(place: Path, service: MadeUp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "trusted", lambda _: False)
    with served(place, service), pytest.raises(ControlError, match="another user listens there"):
        ControlClient(place)


def test_nobody_is_there(place: Path) -> None:
    with pytest.raises(ControlError, match=f"{place}: no service answers there: expected a running `qfilter run`"):
        ControlClient(place)


def test_a_place_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, said in ((tmp_path / "file", "not a socket"), (tmp_path / "none" / "sock", "no such folder")):
        with pytest.raises(ControlError, match=f"{path}: {said}: expected a running `qfilter run`"):
            ControlClient(path)


def test_a_service_that_does_not_answer(place: Path) -> None:
    said = r"the service does not answer: is it stopped, or busy\?"
    with listening(place), ControlClient(place, timeout=0.1) as asking, pytest.raises(ControlError, match=said):
        asking.status()


def test_a_service_that_does_not_even_accept(place: Path) -> None:
    with listening(place) as listener:
        listener.listen(0)
        with connected(place), pytest.raises(ControlError, match="the service does not answer"):
            ControlClient(place, timeout=0.1)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "the service ended the connection: expected an answer"),
        (b"no\n", "answer: b'no"),
        (b'{"version":1,"message":{"kind":"changed","count":1}}\n', "answer 'changed': expected Status"),
    ],
)
def test_answers_that_are_none(place: Path, answer: bytes, said: str) -> None:
    with listening(place) as listener, ControlClient(place) as asking:
        peer, _ = listener.accept()
        peer.sendall(answer)
        peer.shutdown(socket.SHUT_WR)
        with pytest.raises(ControlError) as wrong:
            asking.status()
        peer.close()
    assert said in str(wrong.value)


def test_states_of_sets_travel(place: Path, service: MadeUp, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Sets(sets=(SetState(name="s", type="port", dynamic=True, file=0, added=1, size=5),))
    monkeypatch.setattr(service, "sets", lambda: found)
    with served(place, service), ControlClient(place) as asking:
        assert asking.sets() == found


def test_close_ends_the_thread_and_the_connections(place: Path, service: MadeUp) -> None:
    with listening(place) as listener:
        running = ControlServer(listener, service)
        raw = connected(place)
        wait_until(lambda: len(running._clients) == 1, "it should be accepted")
        running.close()
        running.close()
        assert raw.recv(1) == b""
        assert not running._thread.is_alive()
        raw.close()
