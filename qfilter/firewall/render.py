"""The kernel rules as text for people: what `install --print` shows, ready to paste into a root shell."""

from __future__ import annotations

from qfilter.fields import Family
from qfilter.firewall import iptables, nftables
from qfilter.firewall.state import NOTHING
from qfilter.model.plan import KernelRules
from qfilter.model.policy import Backend

_COMMANDS = {Family.IPV4: "iptables", Family.IPV6: "ip6tables"}


def render(rules: KernelRules, families: tuple[Family, ...] = tuple(Family)) -> str:
    """The commands that install the rules where nothing of qfilter's stands yet. Pure."""
    if rules.backend is Backend.NFT:
        return _here("nft -f -", nftables.script(NOTHING, nftables.desired(rules)))
    kind = rules.backend.value.removeprefix("iptables-")
    return "".join(
        _here(
            f"{_COMMANDS[family]}-{kind}-restore --noflush -w 5",
            iptables.restore_text(NOTHING, iptables.desired(rules, family)),
        )
        for family in families
    )


def _here(command: str, text: str) -> str:
    return f"{command} <<'END'\n{text}END\n"
