"""Notices as the kernel writes them, in orders that are hard to provoke."""

from __future__ import annotations

import errno
import socket
import struct

import pytest

from qfilter.netlink.channel import Channel, Datagram
from qfilter.netlink.links import Links
from qfilter.netlink.message import DONE, DUMP, Message, encode_attributes, encode_message

NEWLINK, DELLINK, GETLINK = 16, 17, 18
AF_BRIDGE = 7


def notice(kind: int, index: int, name: str, family: int = 0) -> Datagram:
    attributes = encode_attributes([(4, struct.pack("=I", 1500)), (3, name.encode() + b"\0")])
    body = struct.pack("=BxHiII", family, 1, index, 0, 0) + attributes
    return Datagram(encode_message(Message(type=kind, body=body)), cut=False)


OVERRUN = OSError(errno.ENOBUFS, "No buffer space available")
CUT = Datagram(b"", cut=True)
END_OF_DUMP = Datagram(encode_message(Message(type=DONE, body=bytes(4))), cut=False)


class Script(Channel):
    """What the kernel says, in order; None is silence."""

    def __init__(self, *said: Datagram | OSError | None) -> None:
        super().__init__(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0))
        self._said = list(said)
        self.asked: list[tuple[int, int]] = []

    def send(self, kind: int, body: bytes, flags: int = 0) -> int:
        self.asked.append((kind, flags))
        return 1

    def receive(self) -> Datagram | None:
        said = self._said.pop(0)
        if isinstance(said, OSError):
            raise said
        return said


def names_after(script: Script) -> dict[int, str]:
    links = Links(script)
    links.refresh()
    links.close()
    found = {}
    for index in range(10):
        try:
            found[index] = links.name(index)
        except LookupError:
            continue
    return found


@pytest.mark.parametrize(
    ("said", "names"),
    [
        ([notice(NEWLINK, 2, "eth0")], {2: "eth0"}),
        ([notice(NEWLINK, 2, "eth0"), notice(NEWLINK, 2, "wan")], {2: "wan"}),
        ([notice(NEWLINK, 2, "eth0"), notice(DELLINK, 2, "eth0")], {}),
        ([notice(DELLINK, 2, "eth0")], {}),
        # a port that leaves its bridge
        ([notice(NEWLINK, 2, "eth0"), notice(DELLINK, 2, "eth0", AF_BRIDGE)], {2: "eth0"}),
        # a bridge's late word on a port that is gone
        ([notice(DELLINK, 2, "eth0"), notice(NEWLINK, 2, "eth0", AF_BRIDGE)], {}),
        ([notice(NEWLINK, 2, "eth0"), END_OF_DUMP], {2: "eth0"}),
    ],
)
def test_notices(said: list[Datagram], names: dict[int, str]) -> None:
    script = Script(*said, None)
    assert names_after(script) == names
    assert script.asked == []


@pytest.mark.parametrize("loss", [OVERRUN, CUT])
def test_after_a_loss_everything_is_asked_for_again(loss: OSError | Datagram) -> None:
    """Between the loss and the answer the interface 2 went and 3 took its name."""
    script = Script(notice(NEWLINK, 2, "eth0"), loss, None, notice(NEWLINK, 3, "eth0"), END_OF_DUMP, None)
    assert names_after(script) == {3: "eth0"}
    assert script.asked == [(GETLINK, DUMP)]


def test_a_loss_while_the_answer_comes_is_made_good_too() -> None:
    script = Script(OVERRUN, None, notice(NEWLINK, 2, "eth0"), OVERRUN, None, notice(NEWLINK, 2, "wan"), None)
    assert names_after(script) == {2: "wan"}
    assert script.asked == [(GETLINK, DUMP)] * 2


def test_another_error_is_not_swallowed() -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        names_after(Script(OSError(errno.EBADF, "Bad file descriptor")))
