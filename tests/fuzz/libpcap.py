"""libpcap's filters through ctypes: what a compiled filter says of a packet that begins with its IP header."""

from __future__ import annotations

from ctypes import CDLL, POINTER, Structure, byref, c_char_p, c_int, c_long, c_uint, c_void_p
from dataclasses import dataclass, field

from qfilter.model.packet import Packet

_DLT_RAW = 12
_MOST = 262_144


class _Program(Structure):
    """`struct bpf_program`."""

    _fields_ = [("length", c_uint), ("instructions", c_void_p)]


class _Header(Structure):
    """`struct pcap_pkthdr`."""

    _fields_ = [("seconds", c_long), ("micros", c_long), ("copied", c_uint), ("length", c_uint)]


def _load() -> CDLL | None:
    for name in ("libpcap.so.1", "libpcap.so.0.8"):
        try:
            library = CDLL(name)
        except OSError:
            continue
        library.pcap_open_dead.restype = c_void_p
        library.pcap_geterr.restype = c_char_p
        library.pcap_geterr.argtypes = [c_void_p]
        library.pcap_compile.argtypes = [c_void_p, POINTER(_Program), c_char_p, c_int, c_uint]
        library.pcap_offline_filter.argtypes = [POINTER(_Program), POINTER(_Header), c_char_p]
        return library
    return None


LIBRARY = _load()
"""None where libpcap is not installed."""


@dataclass
class Filter:
    """A filter of pcap-filter(7), for LINKTYPE_RAW. Raises ValueError with libpcap's words for what is none."""

    text: str
    _program: _Program = field(init=False, default_factory=_Program)

    def __post_init__(self) -> None:
        assert LIBRARY is not None
        handle = LIBRARY.pcap_open_dead(_DLT_RAW, _MOST)
        if LIBRARY.pcap_compile(handle, byref(self._program), self.text.encode(), 1, 0):
            raise ValueError(f"{self.text!r}: {LIBRARY.pcap_geterr(handle).decode()}")

    def __call__(self, packet: Packet) -> bool:
        """Whether it lets a packet through, of which it sees as much as was copied."""
        assert LIBRARY is not None
        header = _Header(copied=len(packet.data), length=packet.wire_length)
        return bool(LIBRARY.pcap_offline_filter(byref(self._program), byref(header), packet.data))
