"""`qfilter run` when nobody reads its standard error: a pager that waits, a log driver that hangs."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from qfilter.daemon import EngineName
from tests.kernel.running import (
    POLICY,
    PORT,
    PolicyFile,
    ask,
    await_events,
    is_installed,
    lines_of_table,
    pause,
    unbind,
)
from tests.lab.clients import Outcome, send_datagrams
from tests.lab.process import Running, wait_until
from tests.lab.servers import udp_echo
from tests.lab.service import READY, qfilter
from tests.lab.topology import Lab

pytestmark = pytest.mark.needs("nfqueue", "iptables-legacy")

TEXT = f"{POLICY}queue: {{backend: iptables-legacy, length: 8}}\n"
_PIDFD_GETFD = 438
JUMP = ("FORWARD", "-j", "QFILTER-FWD")


class Reader:
    """Of a pipe, when the test wants it to read."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self._path = path
        self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self.text = ""

    def read(self) -> str:
        """All so far, with what is in the pipe."""
        try:
            while data := os.read(self._descriptor, 1 << 16):
                self.text += data.decode()
        except BlockingIOError:
            return self.text
        return self.text

    def stall(self) -> None:
        """Not a byte more fits from now on, until `read`."""
        writer = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK)
        try:
            while True:
                os.write(writer, b"\n")
        except BlockingIOError:
            os.close(writer)

    def wait_for(self, text: str) -> None:
        """Reads until it is there."""
        wait_until(lambda: text in self.read(), f"{text!r} should be said", timeout=20.0)

    def close(self) -> None:
        """A second call does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


@pytest.fixture
def world(lab: Lab) -> Iterator[Lab]:
    with udp_echo(lab.server, PORT):
        yield lab


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    reader = Reader(tmp_path / "standard-error")
    yield reader
    reader.close()


@contextmanager
def serving(world: Lab, reader: Reader, policy: Path, *options: str) -> Iterator[Running]:
    """`qfilter run` with the pipe as standard error."""
    words = " ".join(qfilter("run", policy, *options))
    with world.gateway.start("bash", "-c", f"exec {words} 2>{policy.with_name('standard-error')}") as service:
        reader.wait_for(READY)
        yield service


@contextmanager
def descriptors_of(process: int) -> Iterator[None]:
    """Whatever another process has open, this one has too."""
    handle = os.pidfd_open(process)
    numbers = [int(path.name) for path in Path("/proc", str(process), "fd").iterdir()]
    ours = [ctypes.CDLL(None).syscall(_PIDFD_GETFD, handle, number, 0) for number in numbers]
    yield
    for descriptor in (handle, *(each for each in ours if each >= 0)):
        os.close(descriptor)


def take_the_jump_away_and_put_it_back(world: Lab, log: Path) -> None:
    """Each as soon as the Watch has told the one before."""
    for number, verb in enumerate(("-D", "-I"), 1):
        world.gateway.run("iptables-legacy", verb, *JUMP)
        await_events(log, "rules", number)


def test_the_watch_and_a_stop_wait_for_nobody(
    world: Lab, reader: Reader, policy_file: PolicyFile, tmp_path: Path
) -> None:
    log = tmp_path / "events.json"
    with serving(world, reader, policy_file(TEXT), "--events", str(log), "--compare", "0.1") as service:
        reader.stall()
        take_the_jump_away_and_put_it_back(world, log)
        reader.wait_for("kernel rules are as they should be")
        assert reader.text.index("kernel rules differ") < reader.text.index("kernel rules are as they should be")
        reader.stall()
        assert service.stop() == 0
    assert not is_installed(world.gateway)


@pytest.mark.parametrize("engine", EngineName)
def test_verdicts_wait_for_nobody(world: Lab, reader: Reader, policy_file: PolicyFile, engine: EngineName) -> None:
    """An event of the queue proves that what was said before it, of the events' file, is behind the service."""
    words = ("--events", "/dev/full", "--engine", engine, "--format", "json")
    with serving(world, reader, policy_file(TEXT), *words) as service:
        reader.stall()
        pause(service)
        send_datagrams(world.client, world.server.ipv4, PORT + 1, 50)
        wait_until(lambda: world.gateway.queues()[0].dropped_full > 0, "some of 50 should not fit in the queue")
        service.send(signal.SIGCONT)
        service.wait_for('"type":"queue"')
        assert ask(world.client, world.server) is Outcome.ANSWERED
        assert service.stop() == 0
    assert not is_installed(world.gateway)


def test_who_reads_is_told_everything(world: Lab, reader: Reader, policy_file: PolicyFile) -> None:
    with serving(world, reader, policy_file(TEXT)) as service:
        reader.stall()
        assert ask(world.client, world.server) is Outcome.ANSWERED
        reader.read()
        assert service.stop() == 0
    assert lines_of_table(reader.read())["wanted"][:2] == ["accept", "1"]
    assert not is_installed(world.gateway)


def test_a_service_that_fails_ends_though_nobody_is_told(world: Lab, reader: Reader, policy_file: PolicyFile) -> None:
    """Else whoever should start it again would never know."""
    with serving(world, reader, policy_file(TEXT)) as service:
        reader.stall()
        with descriptors_of(service.pid):
            unbind(world.gateway, 0)
        assert service.wait() == 4
    assert is_installed(world.gateway)


def test_a_service_that_fails_says_why_at_the_end(world: Lab, reader: Reader, policy_file: PolicyFile) -> None:
    with serving(world, reader, policy_file(TEXT)) as service:
        with descriptors_of(service.pid):
            unbind(world.gateway, 0)
        assert service.wait() == 4
    *_, failed, error = reader.read().splitlines()
    assert failed.startswith("qfilter: serving failed: the kernel rules stay")
    assert error == "error: serve queue 0: it is no longer bound"


def test_readers_that_are_gone_are_no_reason_to_end(
    world: Lab, reader: Reader, policy_file: PolicyFile, tmp_path: Path
) -> None:
    log = tmp_path / "events.json"
    with serving(world, reader, policy_file(TEXT), "--events", str(log), "--compare", "0.1") as service:
        reader.close()
        take_the_jump_away_and_put_it_back(world, log)
        assert ask(world.client, world.server) is Outcome.ANSWERED
        assert service.stop() == 0
