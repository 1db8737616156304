"""How the tools are found and called, with tools made for the test."""

from __future__ import annotations

from pathlib import Path

import pytest

from qfilter.errors import FirewallError, PrivilegeError
from qfilter.fields import Family
from qfilter.firewall import tools
from qfilter.firewall.state import Command
from qfilter.model.policy import Backend


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder where tools are looked for."""
    monkeypatch.setattr(tools, "_path", lambda: f"{tmp_path}")
    tools._version.cache_clear()
    return tmp_path


def tool(folder: Path, name: str, *lines: str) -> str:
    path = folder / name
    path.write_text("\n".join(("#!/bin/sh", *lines, "")))
    path.chmod(0o755)
    return f"{path}"


def test_a_tool_gets_its_words_and_its_text_and_speaks_english(folder: Path) -> None:
    path = tool(folder, "echo-all", 'echo "$# $1 $LC_ALL"', "while read line; do echo $line; done")
    assert tools.run(Command((path, "two words"), "a\nb\n")) == "1 two words C\na\nb\n"


def test_a_failing_tool_is_quoted(folder: Path) -> None:
    path = tool(folder, "iptables-restore", "echo 'line 2 failed' >&2", "exit 2")
    with pytest.raises(FirewallError) as caught:
        tools.run(Command((path, "--noflush")))
    assert str(caught.value) == f"{path} --noflush: line 2 failed"


@pytest.mark.parametrize(("lines", "said"), [(["exit 3"], "exit code 3"), (["kill -9 $$"], "exit code -9")])
def test_a_tool_that_fails_without_a_word_has_its_exit_code(folder: Path, lines: list[str], said: str) -> None:
    with pytest.raises(FirewallError, match=said):
        tools.run(Command((tool(folder, "nft", *lines),)))


def test_a_tool_that_hangs_is_ended(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "_TIMEOUT", 0.01)
    with pytest.raises(FirewallError, match=r"no answer within 0\.01 s"):
        tools.run(Command((tool(folder, "nft", "while :; do :; done"),)))


def test_a_tool_that_cannot_start_says_why(folder: Path) -> None:
    with pytest.raises(FirewallError, match=f"{folder}/nft: No such file or directory"):
        tools.run(Command((f"{folder}/nft", "-f", "-")))


@pytest.mark.parametrize(
    ("version", "kind"),
    [
        ("iptables v1.8.9 (nf_tables)", Backend.IPTABLES_NFT),
        ("iptables v1.8.9 (legacy)", Backend.IPTABLES_LEGACY),
        ("iptables v1.4.21", Backend.IPTABLES_LEGACY),
    ],
)
def test_the_systems_own_kind(folder: Path, version: str, kind: Backend) -> None:
    for verb in ("", "-restore", "-save"):
        tool(folder, f"iptables{verb}", f"echo '{version}'")
    assert tools.default_kind() is kind
    assert tools.iptables(kind, Family.IPV4) == tools.Iptables(f"{folder}/iptables-restore", f"{folder}/iptables-save")


def test_the_name_that_says_its_kind_comes_first(folder: Path) -> None:
    for name in ("ip6tables-nft-restore", "ip6tables-nft-save", "ip6tables-restore", "ip6tables-save"):
        tool(folder, name, "echo 'ip6tables v1.8.9 (nf_tables)'")
    assert tools.iptables(Backend.IPTABLES_NFT, Family.IPV6).save == f"{folder}/ip6tables-nft-save"


def test_the_other_kind_under_the_plain_name_is_not_taken(folder: Path) -> None:
    tool(folder, "iptables-restore", "echo 'iptables v1.8.9 (legacy)'")
    with pytest.raises(FirewallError, match="iptables-nft-restore: not installed"):
        tools.iptables(Backend.IPTABLES_NFT, Family.IPV4)


def test_without_any_iptables_legacy_is_assumed(folder: Path) -> None:
    assert tools.default_kind() is Backend.IPTABLES_LEGACY


@pytest.mark.parametrize(
    ("said", "unsupported"),
    [
        ("RULE_APPEND failed (No such file or directory): rule in chain QFILTER-IN", True),
        ("iptables: No chain/target/match by that name.", True),
        ("nft: not installed", True),
        ("Couldn't load target `NFQUEUE':No such file or directory", True),
        ("iptables-restore v1.8.9 (legacy): invalid port/service `x' specified", False),
        ("no answer within 30 s", False),
    ],
)
def test_lacking_and_broken_are_told_apart(said: str, unsupported: bool) -> None:
    assert tools.is_unsupported(said) is unsupported


@pytest.mark.parametrize(("capabilities", "may"), [("000001ffffffffff", True), ("1000", True), ("ef", False)])
def test_privilege_is_cap_net_admin(
    capabilities: str, may: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = tmp_path / "status"
    status.write_text(f"Name:\tqfilter\nCapInh:\t0000000000000000\nCapEff:\t{capabilities}\n")
    monkeypatch.setattr(tools, "_STATUS", status)
    if may:
        tools.require_privilege("installing kernel rules")
    else:
        with pytest.raises(PrivilegeError) as caught:
            tools.require_privilege("installing kernel rules")
        assert str(caught.value) == "installing kernel rules needs root or CAP_NET_ADMIN"
