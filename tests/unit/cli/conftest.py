"""The command line in this process: words in, exit code and both outputs back."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from qfilter.cli import main

POLICY = """version: 1
default: {input: drop, output: accept}
rules:
  - {id: lo, match: {iifname: lo}, verdict: accept}
  - id: ssh
    match: {protocol: tcp, dport: 22}
    rules:
      - {id: ssh-known, match: {saddr: 192.0.2.0/24}, log: true, verdict: accept}
      - {id: ssh-slow, limit: {rate: 1/hour, burst: 1}, verdict: accept}
  - {id: dns, hook: input, match: {protocol: udp, sport: 53}, count: answers, verdict: reject}
tests:
  - {packet: {hook: input, saddr: 192.0.2.9, protocol: tcp, dport: 22}, expect: accept, by: ssh-known}
  - {packet: {hook: input, protocol: udp, sport: 53}, expect: reject, by: dns}
"""


@dataclass(frozen=True, slots=True)
class Done:
    """What a command left."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Command = Callable[..., Done]


@pytest.fixture
def qfilter(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """`qfilter("check", path)` as the shell would call it."""

    def run(*words: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["qfilter", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capfd.readouterr()
        assert isinstance(ended.value.code, int)
        return Done(ended.value.code, said.out, said.err)

    return run


@pytest.fixture
def policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a file with POLICY, in the current folder."""
    monkeypatch.chdir(tmp_path)
    Path("policy.yaml").write_text(POLICY)
    return "policy.yaml"
