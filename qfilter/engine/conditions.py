"""Conditions of a rule against one packet."""

from __future__ import annotations

from dataclasses import dataclass, replace

from qfilter.engine.clock import Clock
from qfilter.engine.decode import Decoded
from qfilter.engine.matching import Contains, Truth, every, matches, negate, some
from qfilter.engine.readers import read, read_bytes, read_scapy
from qfilter.engine.value import ABSENT, Unknown, Value
from qfilter.model.match import Match
from qfilter.model.rule import AllOf, AnyOf, BytesTest, Condition, FieldTest, NotOf, PythonTest, ScapyTest
from qfilter.predicates import find


@dataclass(slots=True)
class View:
    """A packet on its way through the rules: what they may look at."""

    decoded: Decoded
    clock: Clock
    contains: Contains

    def read(self, field: str, depth: int = 0) -> Value:
        """A field's value, absent or unknown."""
        return read(self.decoded, field, depth, clock=self.clock)

    def holds(self, condition: Condition) -> Truth:
        """Whether a condition is true of the packet."""
        match condition:
            case AllOf(conditions):
                return every(map(self.holds, conditions))
            case AnyOf(conditions):
                return some(map(self.holds, conditions))
            case NotOf(inner):
                return negate(self.holds(inner))
            case FieldTest(field, match, _, depth):
                return self._test(self.read(field, depth), match)
            case ScapyTest(layer, field, match, _):
                return self._test(read_scapy(self.decoded, layer, field), match)
            case BytesTest():
                return self._bytes(condition)
            case PythonTest(name):
                return self._predicate(name)

    def _test(self, value: Value, match: Match) -> Truth:
        """A condition on a field that the packet does not have is false, also when negated."""
        if value is ABSENT:
            return False
        return value if isinstance(value, Unknown) else matches(match, value, self.contains)

    def _bytes(self, test: BytesTest) -> Truth:
        value = read_bytes(self.decoded, test.base, test.offset, len(test.value))
        if value is ABSENT:
            return False
        if isinstance(value, Unknown):
            return value
        equal = all(byte & mask == wanted for byte, mask, wanted in zip(value, test.mask, test.value, strict=True))
        return equal is not test.negated

    def _predicate(self, name: str) -> Truth:
        predicate = find(name)
        if predicate is None:
            raise LookupError(f"predicate {name!r} is not registered")
        fields = {field: self.read(field) for field in predicate.needs}
        if any(value is ABSENT for value in fields.values()):
            return False
        for value in fields.values():
            if isinstance(value, Unknown):
                return value
        answer = predicate.function(replace(self.decoded.packet, fields=fields))
        if not isinstance(answer, bool):
            raise TypeError(f"predicate {name!r} answered {answer!r}: expected True or False")
        return answer
