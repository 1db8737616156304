"""Other threads while the compiled part works."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import pytest

from qfilter import _native
from qfilter.compiler import encode, portable_plan
from qfilter.policy.load import loads

RULES = 2_000


@pytest.fixture
def nobody_interrupts() -> Iterator[None]:
    """A thread has the interpreter until it gives it away by itself."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(60.0)
    yield
    sys.setswitchinterval(before)


def test_others_go_on_while_an_engine_is_made(nobody_interrupts: None) -> None:
    rules = "".join(f"  - {{id: r{port}, match: {{dport: {port}}}, verdict: accept}}\n" for port in range(RULES))
    document = encode(portable_plan(loads(f"version: 1\ndefault: {{input: drop}}\nrules:\n{rules}")))
    begun = threading.Event()
    made: list[_native.Engine] = []

    def make() -> None:
        begun.set()
        made.append(_native.Engine(document, None))

    thread = threading.Thread(target=make)
    thread.start()
    begun.wait()
    assert made == [], "the engine was made before anybody else had a turn"
    thread.join()
    assert len(made) == 1
