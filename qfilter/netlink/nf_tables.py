"""nf_tables without its tool: what chains there are, and tables that go only as they were looked at.

nft deletes a chain or a table with all that is in it. The kernel itself can refuse: what is not empty, and every batch
that names an older count of the changes in the network namespace's nf_tables.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing

from qfilter.netlink.channel import Channel
from qfilter.netlink.message import (
    ACK,
    DONE,
    DUMP,
    ERROR,
    REQUEST,
    Message,
    decode_attributes,
    decode_error,
    decode_messages,
    encode_attributes,
)
from qfilter.netlink.nfnetlink import NETLINK_NETFILTER, NFGEN, Family

# linux/netfilter/nf_tables.h, nfnetlink.h
_SUBSYSTEM = 10
_DELETE_TABLE, _GET_CHAIN, _DELETE_CHAIN, _DELETE_RULES = (_SUBSYSTEM << 8 | kind for kind in (2, 4, 5, 8))
_NEW_GENERATION, _GET_GENERATION = (_SUBSYSTEM << 8 | kind for kind in (15, 16))
_BEGIN, _END = 16, 17
_NOT_RECURSIVE = 0x100
_BATCH_GENERATION = _GENERATION_ID = 1
_TABLE_NAME = _CHAIN_TABLE = _RULE_TABLE = 1
_RULE_CHAIN, _CHAIN_NAME = 2, 3


def chains(family: Family) -> list[tuple[str, str]]:
    """The tables and names of a family's chains; none where the kernel has no nf_tables. Raises OSError."""
    with closing(Channel.open(NETLINK_NETFILTER)) as channel:
        channel.send(_GET_CHAIN, NFGEN.pack(family, 0, 0), DUMP)
        found: list[tuple[str, str]] = []
        while (datagram := channel.receive()) is not None:
            for message in decode_messages(datagram.data):
                if message.type in (DONE, ERROR):
                    return found
                attributes = dict(decode_attributes(message.body, NFGEN.size))
                found.append((_text(attributes[_CHAIN_TABLE]), _text(attributes[_CHAIN_NAME])))
        raise OSError("the list of chains ended early")


def generation() -> bytes | None:
    """The count of changes, as the kernel says it; None where it has no nf_tables."""
    with closing(Channel.open(NETLINK_NETFILTER)) as channel:
        channel.send(_GET_GENERATION, NFGEN.pack(Family.UNSPEC, 0, 0))
        answer = channel.receive()
    for message in decode_messages(answer.data) if answer is not None else ():
        if message.type == _NEW_GENERATION:
            return dict(decode_attributes(message.body, NFGEN.size))[_GENERATION_ID]
    return None


def delete_tables(family: Family, tables: Mapping[str, Sequence[str]], seen: bytes) -> None:
    """Delete tables with these chains of theirs and their rules, all or none.

    Raises OSError, also where something else is in a table, such as a set, and with ERESTART where anything has changed
    since `seen`. (Linux before 4.12 does not look at `seen`, and before 4.15 not at what else is there.)
    """
    batch = NFGEN.pack(Family.UNSPEC, 0, _SUBSYSTEM)
    deletions = [
        (kind, NFGEN.pack(family, 0, 0) + encode_attributes(names))
        for table, inside in tables.items()
        for kind, names in _deletions(_name(table), [_name(chain) for chain in inside])
    ]
    refused = _send(
        [
            Message(type=_BEGIN, flags=REQUEST | ACK, body=batch + encode_attributes([(_BATCH_GENERATION, seen)])),
            *(Message(type=kind, flags=REQUEST | ACK | _NOT_RECURSIVE, body=body) for kind, body in deletions),
            Message(type=_END, flags=REQUEST, body=batch),
        ]
    )
    if refused:
        raise OSError(refused, os.strerror(refused))


def _deletions(table: bytes, inside: Sequence[bytes]) -> Iterator[tuple[int, list[tuple[int, bytes]]]]:
    """Rules of all chains first, for they may lead into each other."""
    yield from ((_DELETE_RULES, [(_RULE_TABLE, table), (_RULE_CHAIN, chain)]) for chain in inside)
    yield from ((_DELETE_CHAIN, [(_CHAIN_TABLE, table), (_CHAIN_NAME, chain)]) for chain in inside)
    yield _DELETE_TABLE, [(_TABLE_NAME, table)]


def _send(batch: Sequence[Message]) -> int:
    """The first errno that the kernel answers with, 0 for none."""
    with closing(Channel.open(NETLINK_NETFILTER)) as channel:
        channel.send_together(batch)
        answers = []
        while (datagram := channel.receive()) is not None:
            answers += [decode_error(each) for each in decode_messages(datagram.data) if each.type == ERROR]
    return next((each for each in answers if each), 0)


def _name(name: str) -> bytes:
    return name.encode("ascii") + b"\0"


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode("utf-8", "replace")
