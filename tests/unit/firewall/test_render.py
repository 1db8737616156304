"""The kernel rules as text, compared whole with the files in tests/golden/firewall.

After a change that is meant, `QFILTER_GOLDEN=write .venv/bin/pytest tests/unit/firewall/test_render.py` writes them
anew; read the difference before it is committed.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from qfilter.fields import Family
from qfilter.firewall import render
from qfilter.model.plan import KernelRules
from qfilter.model.policy import Backend, Target
from tests.unit.firewall.kernel_rules import everything, gateway, least

GOLDEN = Path(__file__).parents[2] / "golden" / "firewall"
CASES = {
    "least-iptables-legacy": least(Backend.IPTABLES_LEGACY),
    "least-nft": least(Backend.NFT),
    "queue-iptables-legacy": replace(least(Backend.IPTABLES_LEGACY), target=Target.QUEUE),
    "queue-nft": replace(least(Backend.NFT), target=Target.QUEUE),
    "gateway-iptables-nft": gateway(Backend.IPTABLES_NFT),
    "gateway-nft": gateway(Backend.NFT),
    "everything-iptables-nft": everything(Backend.IPTABLES_NFT),
    "everything-nft": everything(Backend.NFT),
}


@pytest.mark.parametrize("name", CASES)
def test_rendered_as_in_the_golden_file(name: str) -> None:
    golden = GOLDEN / f"{name}.txt"
    text = render(CASES[name])
    if os.environ.get("QFILTER_GOLDEN") == "write":
        golden.write_text(text)
    assert text == golden.read_text()


def test_every_golden_file_has_its_case() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == CASES.keys()


@pytest.mark.parametrize("rules", CASES.values(), ids=CASES)
def test_a_kernel_without_ipv6_gets_half_of_iptables_and_all_of_nft(rules: KernelRules) -> None:
    whole, half = render(rules), render(rules, (Family.IPV4,))
    assert (half == whole) if rules.backend is Backend.NFT else (whole.startswith(half) and "ip6tables" not in half)


@pytest.mark.parametrize(
    ("first", "last", "bypass", "fanout", "iptables", "nft"),
    [
        (0, 0, False, False, "-j NFQUEUE --queue-num 0", "queue to 0"),
        (5, 5, True, False, "-j NFQUEUE --queue-num 5 --queue-bypass", "queue flags bypass to 5"),
        (0, 3, False, False, "-j NFQUEUE --queue-balance 0:3", "queue to 0-3"),
        (0, 3, False, True, "-j NFQUEUE --queue-balance 0:3 --queue-cpu-fanout", "queue flags fanout to 0-3"),
        # one queue has nothing to fan out, and iptables refuses the option
        (5, 5, False, True, "-j NFQUEUE --queue-num 5", "queue to 5"),
    ],
)
def test_the_queue_rule(first: int, last: int, bypass: bool, fanout: bool, iptables: str, nft: str) -> None:
    def rendered(backend: Backend) -> str:
        return render(replace(least(backend), first=first, last=last, bypass=bypass, cpu_fanout=fanout))

    assert f"-A QFILTER-IN {iptables}\n" in rendered(Backend.IPTABLES_NFT)
    assert f'add rule inet qfilter input {nft} comment "{nft}"\n' in rendered(Backend.NFT)


@pytest.mark.parametrize(("mask", "mark"), [(0xF000_0000, "0x20000000"), (0x0F00, "0x200"), (0xF, "0x2")])
def test_the_code_of_an_answer_stands_in_the_lowest_bits_of_the_mask(mask: int, mark: str) -> None:
    rules = replace(everything(Backend.IPTABLES_LEGACY), mark_mask=mask)
    assert f"-m mark --mark {mark}/{mask:#x} -j REJECT --reject-with icmp-port-unreachable" in render(rules)
