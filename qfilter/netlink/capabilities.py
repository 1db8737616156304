"""What this kernel's NFQUEUE can do. Nothing is bound or set by asking."""

from __future__ import annotations

import errno
import os

from qfilter.errors import PrivilegeError, QFilterError, QueueError, UnsupportedError
from qfilter.netlink.channel import Channel
from qfilter.netlink.nfnetlink import (
    ALL_FLAGS,
    CONFIG,
    NETLINK_NETFILTER,
    ConfigFlag,
    encode_config,
    encode_greeting,
)

_ABSENT = (errno.EPROTONOSUPPORT, errno.EINVAL)
_ANY_QUEUE = 0xFFFF


def queue_flags(asked: ConfigFlag = ALL_FLAGS) -> ConfigFlag:
    """Those of the flags that a queue of this kernel takes; all queues are alike.

    Asked for CONNTRACK, the kernel loads nf_conntrack_netlink where that is a module. Raises PrivilegeError without
    CAP_NET_ADMIN, UnsupportedError on a kernel without nfnetlink_queue.
    """
    try:
        channel = Channel.open(NETLINK_NETFILTER)
    except OSError as error:
        raise _explained(error.errno or 0) from None
    try:
        refused, _ = channel.ask(CONFIG, encode_greeting())
        if refused:
            raise _explained(refused)
        return ConfigFlag(sum(flag for flag in asked if _takes(channel, flag)))
    finally:
        channel.close()


def _takes(channel: Channel, flag: ConfigFlag) -> bool:
    # The kernel looks at the flags before it looks for the queue, which nobody needs to have bound.
    answer, _ = channel.ask(CONFIG, encode_config(_ANY_QUEUE, flags=flag))
    return answer != errno.EOPNOTSUPP


def _explained(number: int) -> QFilterError:
    if number == errno.EPERM:
        return PrivilegeError("NFQUEUE: expected root or CAP_NET_ADMIN")
    if number in _ABSENT:
        return UnsupportedError("NFQUEUE: this kernel has no nfnetlink_queue")
    return QueueError("ask what NFQUEUE can do", os.strerror(number), number)
