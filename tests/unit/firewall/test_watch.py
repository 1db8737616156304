"""The watch tells what differs once, that all is well again once, and repairs only when it is asked."""

from __future__ import annotations

from queue import SimpleQueue

import pytest

from qfilter.errors import FirewallError
from qfilter.firewall import watch
from qfilter.firewall.watch import Watch
from qfilter.model.hook import Hook
from qfilter.model.plan import KernelRules
from qfilter.model.policy import Backend, Target

RULES = KernelRules(backend=Backend.NFT, target=Target.NFQUEUE, hooks=(Hook.INPUT,))
PATIENT = 10.0


class Kernel:
    """What the watch finds, and what it did."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.found: tuple[str, ...] | Exception = ()
        self.repairs = 0
        self.looks: SimpleQueue[None] = SimpleQueue()
        monkeypatch.setattr(watch, "installed", lambda: None)
        monkeypatch.setattr(watch, "differences", self._differences)
        monkeypatch.setattr(watch, "install", self._install)

    def await_looks(self, count: int) -> None:
        for _ in range(count):
            self.looks.get(timeout=PATIENT)

    def _differences(self, _rules: KernelRules, _found: None) -> tuple[str, ...]:
        self.looks.put(None)
        if isinstance(self.found, Exception):
            raise self.found
        return self.found

    def _install(self, _rules: KernelRules) -> None:
        self.repairs += 1
        self.found = ()


def test_a_difference_is_told_once_and_repaired_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel, told = Kernel(monkeypatch), SimpleQueue[tuple[str, ...]]()
    looking = Watch(RULES, told.put, every=0.001)
    kernel.await_looks(3)
    kernel.found = ("missing",)
    assert told.get(timeout=PATIENT) == ("missing",)
    kernel.await_looks(3)
    assert (told.qsize(), kernel.repairs) == (0, 0)
    looking.repair()
    assert (told.get(timeout=PATIENT), kernel.repairs) == ((), 1)
    looking.close()
    looking.close()
    assert told.empty()


def test_rules_that_cannot_be_read_are_told_and_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel, told = Kernel(monkeypatch), SimpleQueue[tuple[str, ...]]()
    kernel.found = FirewallError("nft", "broken")
    looking = Watch(RULES, told.put, every=0.001)
    assert told.get(timeout=PATIENT) == ("cannot be read: nft: broken",)
    kernel.found = ()
    assert told.get(timeout=PATIENT) == ()
    looking.close()


def test_it_ends_at_once_however_seldom_it_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch)
    Watch(RULES, lambda _: None, every=86_400.0).close()
    assert kernel.looks.empty()
