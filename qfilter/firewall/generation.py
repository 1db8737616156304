"""Tables that go only as they were looked at: what others put there meanwhile is nobody's to lose.

nft deletes a chain or a table with all that is in it. The kernel itself can refuse: what is not empty, and every batch
that names an older count of the changes in the network namespace's nf_tables.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator, Mapping, Sequence

from qfilter.errors import FirewallError
from qfilter.fields import Family
from qfilter.netlink.channel import Channel
from qfilter.netlink.message import (
    ACK,
    ERROR,
    REQUEST,
    Message,
    decode_attributes,
    decode_error,
    decode_messages,
    encode_attributes,
)
from qfilter.netlink.nfnetlink import NETLINK_NETFILTER

# linux/netfilter/nf_tables.h, nfnetlink.h
_SUBSYSTEM = 10
_DELETE_TABLE, _DELETE_CHAIN, _DELETE_RULES = (_SUBSYSTEM << 8 | kind for kind in (2, 5, 8))
_NEW_GENERATION, _GET_GENERATION = (_SUBSYSTEM << 8 | kind for kind in (15, 16))
_BEGIN, _END = 16, 17
_NOT_RECURSIVE = 0x100
_BATCH_GENERATION = _GENERATION_ID = 1
_TABLE_NAME = _CHAIN_TABLE = _RULE_TABLE = 1
_RULE_CHAIN, _CHAIN_NAME = 2, 3
_HEADER = struct.Struct("!BBH")
FAMILIES = {Family.IPV4: 2, Family.IPV6: 10}
"""NFPROTO_* of linux/netfilter.h."""


def generation() -> bytes | None:
    """The count of changes, as the kernel says it; None where it has no nf_tables."""
    channel = Channel.open(NETLINK_NETFILTER)
    try:
        channel.send(_GET_GENERATION, _HEADER.pack(0, 0, 0))
        answer = channel.receive()
    finally:
        channel.close()
    for message in decode_messages(answer.data) if answer is not None else ():
        if message.type == _NEW_GENERATION:
            return dict(decode_attributes(message.body, _HEADER.size))[_GENERATION_ID]
    return None


def delete_tables(family: Family, tables: Mapping[str, Sequence[str]], seen: bytes | None) -> None:
    """Delete tables with these chains of theirs and their rules, all or none.

    Raises FirewallError, also where something else is in a table, such as a set, or anything has changed since `seen`.
    (Linux before 4.12 does not look at `seen`, and before 4.15 not at what else is there.)
    """
    what = f"delete tables {', '.join(tables)}"
    if seen is None:
        raise FirewallError(what, "the kernel does not say when they were looked at")
    begin = encode_attributes([(_BATCH_GENERATION, seen)])
    deletions = [
        (kind, _HEADER.pack(FAMILIES[family], 0, 0) + encode_attributes(names))
        for table, chains in tables.items()
        for kind, names in _deletions(_name(table), [_name(chain) for chain in chains])
    ]
    batch = [
        Message(type=_BEGIN, flags=REQUEST | ACK, body=_HEADER.pack(0, 0, _SUBSYSTEM) + begin),
        *(Message(type=kind, flags=REQUEST | ACK | _NOT_RECURSIVE, body=body) for kind, body in deletions),
        Message(type=_END, flags=REQUEST, body=_HEADER.pack(0, 0, _SUBSYSTEM)),
    ]
    refused = _send(batch)
    if refused:
        changed = refused == errno.ERESTART
        raise FirewallError(what, "others changed rules meanwhile" if changed else os.strerror(refused))


def _deletions(table: bytes, chains: Sequence[bytes]) -> Iterator[tuple[int, list[tuple[int, bytes]]]]:
    """Rules of all chains first, for they may lead into each other."""
    yield from ((_DELETE_RULES, [(_RULE_TABLE, table), (_RULE_CHAIN, chain)]) for chain in chains)
    yield from ((_DELETE_CHAIN, [(_CHAIN_TABLE, table), (_CHAIN_NAME, chain)]) for chain in chains)
    yield _DELETE_TABLE, [(_TABLE_NAME, table)]


def _send(batch: Sequence[Message]) -> int:
    """The first errno that the kernel answers with, 0 for none."""
    channel = Channel.open(NETLINK_NETFILTER)
    try:
        channel.send_together(batch)
        answers = []
        while (datagram := channel.receive()) is not None:
            answers += [decode_error(each) for each in decode_messages(datagram.data) if each.type == ERROR]
        return next((each for each in answers if each), 0)
    finally:
        channel.close()


def _name(name: str) -> bytes:
    return name.encode("ascii") + b"\0"
