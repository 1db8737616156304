"""What a service without scapy conditions never loads: scapy is 26 MiB, and half a second."""

from __future__ import annotations

import subprocess
import sys

import pytest

PREPARED = """
import sys

import qfilter.cli.run
from qfilter.daemon import EngineName, engine_maker
from qfilter.model.packet import Packet
from qfilter.model.hook import Hook
from qfilter.policy.load import loads

def scapy(): print("scapy" in sys.modules, end=" ")

policy = loads(r'''
version: 1
default: {input: drop}
rules: [{match: {%s}, log: true, verdict: accept}]
''')
scapy()
engine = engine_maker(EngineName.%s, policy)(None)
scapy()
datagram = bytes.fromhex("4500001c000100004011f7ccc0000201c0000202 04d20035 00080000")
for data in (datagram, datagram[:-1]):
    packet = Packet(data=data, wire_length=len(data), hook=Hook.INPUT)
    verdict = engine.decide(packet)
    print(verdict.decision, *engine.summary(packet), end=" ")
    scapy()
"""
ENDS = "saddr daddr sport dport protocol"


@pytest.mark.parametrize(
    ("condition", "engine", "said"),
    [
        ("dport: 53", "NATIVE", f"False False accept {ENDS} False drop saddr daddr protocol False"),
        ("scapy.UDP.dport: 53", "NATIVE", f"True True accept {ENDS} True drop saddr daddr protocol True"),
        ("dport: 53", "REFERENCE", f"False True accept {ENDS} True drop saddr daddr protocol True"),
    ],
)
def test_scapy_is_loaded_for_who_needs_it(condition: str, engine: str, said: str) -> None:
    code = PREPARED % (condition, engine)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == said


def test_python_is_ready_before_packets_come() -> None:
    """Else the first of them would wait for half a second, and that may be too late."""
    code = PREPARED % (r"payload: {regex: 'a\Q\E+'}", "NATIVE")  # a pattern that RE2 alone decides
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[:2] == ["False", "True"]
