"""Names for protocol numbers and ports. Shipped with the package, so that a policy means the same on every machine."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType


class Names:
    """A table of lower-case names and the numbers that each may stand for."""

    def __init__(self, resource: str) -> None:
        text = files("qfilter").joinpath("data", resource).read_text(encoding="ascii")
        entries = [line.split() for line in text.splitlines() if not line.startswith("#")]
        self._numbers = {name: tuple(map(int, numbers)) for name, *numbers in entries}
        self._names: dict[int, str] = {}
        for name, numbers in self._numbers.items():
            if len(numbers) == 1:
                self._names.setdefault(numbers[0], name)

    @property
    def unambiguous(self) -> Mapping[str, int]:
        """Every name that means one number."""
        return MappingProxyType({name: numbers[0] for name, numbers in self._numbers.items() if len(numbers) == 1})

    def numbers(self, name: str) -> tuple[int, ...]:
        """What a name may stand for: empty when it is unknown, several when it is ambiguous. Case does not matter."""
        return self._numbers.get(name.lower(), ())

    def name(self, number: int) -> str:
        """The name that people read for a number, or the number itself where it has none."""
        return self._names.get(number, str(number))


@cache
def protocols() -> Names:
    """IANA protocol numbers; `icmpv6` and `ipv6-icmp` are one."""
    return Names("protocols.txt")


@cache
def services() -> Names:
    """Ports by service name."""
    return Names("services.txt")
