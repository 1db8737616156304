"""One decoded IP packet: what its headers say, how far they could be read, and where their parts begin."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from qfilter.engine.value import Known, Partial, Unknown
from qfilter.fields import Family
from qfilter.model.malformed import Malformed
from qfilter.model.packet import Packet
from qfilter.model.verdict import Reason


class Fragment(IntEnum):
    """The values of the field `fragment`."""

    WHOLE = 0
    FIRST = 1
    LATER = 2


class Lie(Exception):  # noqa: N818
    """Raised inside the dissection only: `decode` turns it into `Decoded.malformed`."""

    def __init__(self, code: Malformed) -> None:
        self.code = code
        super().__init__(code)


@dataclass(slots=True, kw_only=True)
class Decoded:
    """A packet, or a packet inside its tunnel. The dissection fills it; nobody changes it afterwards.

    Offsets count bytes in `packet.data`. Of a malformed packet, `values` holds what was read before the lie.
    """

    packet: Packet
    allow: frozenset[Malformed]
    network_offset: int
    """Where the IP header begins: 0, or further in for a packet inside a tunnel."""
    end: int
    """Where the packet ends: what its container has, and from the IP header on what that header claims of it."""
    malformed: Malformed | None = None
    family: Family | None = None
    protocol: int | None = None
    """None while nobody can say, see `cut`."""
    fragment: Fragment = Fragment.WHOLE
    fragment_offset: int = 0
    """Bytes of the datagram before this fragment's."""
    cut: Reason | None = None
    """Why headers that are not in `values` may exist all the same: TRUNCATED or FRAGMENT. None: there are no more."""
    rerouted: bool = False
    """The header's addresses are not those of the layer-4 checksum: source routed, or a mobile node's home address."""
    transport: int | None = None
    payload: int | None = None
    values: dict[str, Known | Partial] = field(default_factory=dict)
    """Fields of the network and transport layers by name."""

    @property
    def transport_offset(self) -> int | Unknown | None:
        """Where the layer-4 header begins, whether copied or not; None without layer 4."""
        return self._known_unless_cut(self.transport, "transport")

    @property
    def payload_offset(self) -> int | Unknown | None:
        """Where the payload begins; None only when the packet is malformed."""
        return self._known_unless_cut(self.payload, "payload")

    @property
    def here(self) -> int:
        """Where the bytes of this packet that the kernel copied end."""
        return min(self.end, len(self.packet.data))

    def copied(self, offset: int, size: int) -> bool:
        """Whether these bytes of the packet are here. When not, that is written down in `cut`."""
        if offset + size <= self.here:
            return True
        self.cut = Reason.TRUNCATED
        return False

    def require(self, truth: bool, code: Malformed) -> None:
        """End the dissection with `code`, unless the header is consistent or the policy allows this one."""
        if not truth and code not in self.allow:
            raise Lie(code)

    def require_inside(self, offset: int, size: int, code: Malformed) -> None:
        """A header must end inside its packet, and the whole header chain inside a first fragment (RFC 7112)."""
        self.require(offset + size <= self.end, Malformed.FRAGMENT_SHORT if self.fragment is Fragment.FIRST else code)

    def _known_unless_cut(self, offset: int | None, what: str) -> int | Unknown | None:
        return Unknown(self.cut, what) if offset is None and self.cut is not None else offset
