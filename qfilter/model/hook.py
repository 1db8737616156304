"""The five netfilter hooks of the IP families."""

from __future__ import annotations

from enum import StrEnum


class Hook(StrEnum):
    """A netfilter hook, named as in nftables."""

    PREROUTING = "prerouting"
    INPUT = "input"
    FORWARD = "forward"
    OUTPUT = "output"
    POSTROUTING = "postrouting"

    @property
    def number(self) -> int:
        """NF_INET_* of linux/netfilter.h."""
        return tuple(Hook).index(self)

    @classmethod
    def from_number(cls, number: int) -> Hook:
        """The hook of an NF_INET_* number; raises IndexError outside 0 to 4."""
        if number < 0:
            raise IndexError(number)
        return tuple(cls)[number]
