"""Conditions of a rule against one packet."""

from __future__ import annotations

from dataclasses import dataclass, replace

from scapy.packet import Packet as ScapyPacket

from qfilter.engine.clock import Clock
from qfilter.engine.decode import Decoded
from qfilter.engine.describe import subject
from qfilter.engine.foreign import attempt
from qfilter.engine.matching import Contains, Truth, every, matches, negate, some
from qfilter.engine.readers import read, read_bytes
from qfilter.engine.scapy_read import dissect, missing, read_scapy
from qfilter.engine.value import ABSENT, Unknown, Value, exact
from qfilter.model.match import Match
from qfilter.model.rule import AllOf, AnyOf, BytesTest, Condition, FieldTest, NotOf, Predicate, PythonTest, ScapyTest
from qfilter.model.verdict import Reason


@dataclass(slots=True)
class View:
    """A packet on its way through the rules: what they may look at."""

    decoded: Decoded
    clock: Clock
    contains: Contains
    answer_by: int | None = None
    """When an answer of slow code comes too late, in monotonic nanoseconds; None waits for ever."""
    _layers: tuple[ScapyPacket, ...] | Unknown | None = None

    def read(self, field: str, depth: int = 0) -> Value:
        """A field's value, absent or unknown."""
        return read(self.decoded, field, depth, clock=self.clock)

    def holds(self, condition: Condition) -> Truth:
        """Whether a condition is true of the packet. Never raises: what raises on the way is unknown, cause `error`."""
        match condition:
            case AllOf(conditions):
                return every(map(self.holds, conditions))
            case AnyOf(conditions):
                return some(map(self.holds, conditions))
            case NotOf(inner):
                return negate(self.holds(inner))
            case FieldTest(_, match):
                return self._test(self.value(condition), match)
            case ScapyTest(_, _, match):
                return self._in_time(subject(condition), self._test(self.value(condition), match))
            case BytesTest():
                return self._bytes(condition)
            case PythonTest(predicate):
                return self._in_time(f"python {predicate.name}", attempt(lambda: self._ask(predicate)))

    def value(self, test: FieldTest | ScapyTest | BytesTest) -> Value:
        """What a condition looks at: a value, absent or unknown."""
        match test:
            case FieldTest(field, _, _, depth):
                return self.read(field, depth)
            case ScapyTest(layer, field):
                return self._scapy(layer, field)
            case BytesTest(base, offset, value):
                return read_bytes(self.decoded, base, offset, len(value))

    def _scapy(self, layer: str, field: str) -> Value:
        unknown = missing(self.decoded, layer, field)
        if unknown:
            return unknown
        if self._layers is None:
            self._layers = attempt(lambda: dissect(self.decoded))
        layers = self._layers
        return layers if isinstance(layers, Unknown) else attempt(lambda: read_scapy(layers, layer, field))

    def _in_time(self, what: str, answer: Truth) -> Truth:
        """Slow code is not interrupted; but what it answers too late does not count."""
        late = self.answer_by is not None and self.clock.monotonic() > self.answer_by
        return Unknown(Reason.DEADLINE, what) if late and isinstance(answer, bool) else answer

    def _test(self, value: Value, match: Match) -> Truth:
        """A condition on a field that the packet does not have is false, also when negated."""
        if value is ABSENT:
            return False
        return value if isinstance(value, Unknown) else matches(match, value, self.contains)

    def _bytes(self, test: BytesTest) -> Truth:
        value = self.value(test)
        if value is ABSENT:
            return False
        if isinstance(value, Unknown):
            return value
        assert isinstance(value, bytes)
        equal = all(byte & mask == wanted for byte, mask, wanted in zip(value, test.mask, test.value, strict=True))
        return equal is not test.negated

    def _ask(self, predicate: Predicate) -> Truth:
        fields = {field: exact(self.read(field)) for field in predicate.needs}
        if any(value is ABSENT for value in fields.values()):
            return False
        for value in fields.values():
            if isinstance(value, Unknown):
                return value
        answer = predicate.function(replace(self.decoded.packet, fields=fields))
        if not isinstance(answer, bool):
            raise TypeError(f"predicate {predicate.name!r} answered {answer!r}: expected True or False")
        return answer
