"""Interface names by index, kept true by the kernel's own notices (linux/rtnetlink.h)."""

from __future__ import annotations

import errno
import struct
from typing import Self

from qfilter.netlink.channel import Channel
from qfilter.netlink.message import DUMP, Message, decode_attributes, decode_messages

_NETLINK_ROUTE = 0
_RTMGRP_LINK = 1
_NEWLINK, _DELLINK, _GETLINK = 16, 17, 18
_IFINFO = struct.Struct("=BxHiII")
_AF_UNSPEC = 0
_IFLA_IFNAME = 3


class Links:
    """The interfaces of the namespace where it was opened. `name` makes no system call; `refresh` makes one or more."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._names: dict[int, str] = {}

    @classmethod
    def open(cls) -> Self:
        """Raises OSError when the kernel gives no socket."""
        links = cls(Channel.open(_NETLINK_ROUTE, groups=_RTMGRP_LINK))
        try:
            links._ask_for_all()
            links.refresh()
        except BaseException:
            links.close()
            raise
        return links

    def close(self) -> None:
        """A second call does nothing."""
        self._channel.close()

    def refresh(self) -> None:
        """Takes in every rename, arrival and departure until now.

        A packet that was received before a refresh gets its name right after it: an interface that goes away takes
        its queued packets with it, so that an index used again never stands for the earlier interface.
        """
        while self._take_notices():
            self._names.clear()
            self._ask_for_all()

    def name(self, index: int) -> str:
        """Raises LookupError for an index that no interface has."""
        try:
            return self._names[index]
        except KeyError:
            raise LookupError(f"interface index {index}: no such interface") from None

    def _ask_for_all(self) -> None:
        self._channel.send(_GETLINK, _IFINFO.pack(_AF_UNSPEC, 0, 0, 0, 0), DUMP)

    def _take_notices(self) -> bool:
        """True when some were lost."""
        lost = False
        while True:
            try:
                datagram = self._channel.receive()
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                lost = True
                continue
            if datagram is None:
                return lost
            if datagram.cut:
                lost = True
                continue
            for message in decode_messages(datagram.data):
                self._take(message)

    def _take(self, message: Message) -> None:
        if message.type not in (_NEWLINK, _DELLINK):
            return
        family, _, index, _, _ = _IFINFO.unpack_from(message.body)
        # A bridge says DELLINK, with its own family, when a port leaves it: the interface itself lives on.
        if family != _AF_UNSPEC:
            return
        if message.type == _DELLINK:
            self._names.pop(index, None)
            return
        name = dict(decode_attributes(message.body, _IFINFO.size)).get(_IFLA_IFNAME)
        if name is not None:
            self._names[index] = name.rstrip(b"\0").decode("utf-8", "surrogateescape")
