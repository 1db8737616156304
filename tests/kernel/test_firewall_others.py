"""What others write beside qfilter's rules, in whatever words and at whatever moment: it stays, and ours still go."""

from __future__ import annotations

from pathlib import Path

import pytest

from qfilter import firewall
from qfilter.errors import FirewallError
from qfilter.firewall import backends, tools
from qfilter.firewall.state import Command
from qfilter.model.hook import Hook
from qfilter.model.policy import Backend
from tests.kernel.firewall_rulesets import Tools, namespace, snapshot
from tests.kernel.running import POLICY, PolicyFile, command
from tests.lab.namespace import Namespace
from tests.lab.service import READY, qfilter
from tests.lab.topology import Lab
from tests.unit.firewall.kernel_rules import everything, gateway, least

pytestmark = pytest.mark.needs("iptables-nft", "iptables-legacy", "nft")

IPTABLES = (Backend.IPTABLES_LEGACY, Backend.IPTABLES_NFT)
NATIVE = "ct state established,related accept"
UNREADABLE = (
    "iptables-nft ipv4: nft has put rules into `table ip filter` that iptables-nft cannot read, and so cannot write "
    "beside: move them into a table of their own, or choose another backend"
)


def add_native(where: Namespace, chain: str = "INPUT") -> None:
    """A rule that iptables-nft cannot print, in a base chain of iptables' that is made where it is missing."""
    hook = f"{{ type filter hook {chain.lower()} priority 0; }}"
    where.run("nft", f"add table ip filter; add chain ip filter {chain} {hook}; add rule ip filter {chain} {NATIVE}")


def listed(where: Namespace) -> str:
    return where.run("nft", "--stateless", "list", "table", "ip", "filter").stdout


def test_where_iptables_cannot_read_nothing_is_written() -> None:
    with namespace() as made, made.entered():
        add_native(made)
        before = snapshot(made)
        for _ in range(2):
            with pytest.raises(FirewallError, match="nft has put rules into `table ip filter` that iptables-nft"):
                firewall.install(gateway(Backend.IPTABLES_NFT))
            assert snapshot(made) == before
        assert firewall.differences(gateway(Backend.IPTABLES_NFT), firewall.installed())[0] == UNREADABLE
        assert UNREADABLE in firewall.status().remarks
        assert firewall.remove() == ()


def test_another_tool_works_beside_it() -> None:
    with namespace() as made, made.entered():
        add_native(made)
        before = snapshot(made)
        rules = gateway(Backend.IPTABLES_LEGACY)
        firewall.install(rules)
        assert firewall.status(rules).differences == ()
        firewall.remove()
        assert snapshot(made) == before


def test_a_rule_that_comes_later_is_told_and_stays_when_qfilters_go() -> None:
    with namespace() as made, made.entered():
        firewall.install(everything(Backend.IPTABLES_NFT))
        made.run("iptables-nft", "-A", "FORWARD", "-p", "udp", "-g", "QFILTER-IN")
        made.run("iptables-nft", "-I", "QFILTER-IN", "-j", "QFILTER-FWD")
        add_native(made)
        found = firewall.status(everything(Backend.IPTABLES_NFT))
        assert found.differences == (UNREADABLE,)
        assert found.found.backends == (Backend.IPTABLES_NFT,)
        assert found.conntrack
        with pytest.raises(FirewallError, match="cannot write beside"):
            firewall.install(everything(Backend.IPTABLES_NFT))
        assert firewall.remove()[0] == "iptables-nft ipv4: mangle QFILTER-PRE and its jump removed"
        assert "QFILTER" not in snapshot(made)
        assert NATIVE in listed(made)
        assert firewall.remove() == ()


def test_a_rule_that_comes_in_the_middle_of_an_installation_undoes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with namespace() as made, made.entered():
        fake = Tools(tmp_path, monkeypatch)
        fake.replace("ip6tables-nft-restore", '$real "$@"', f"nft add rule ip filter INPUT {NATIVE}")
        with pytest.raises(FirewallError, match="nft has put rules into"):
            firewall.install(gateway(Backend.IPTABLES_NFT))
        assert "QFILTER" not in snapshot(made)
        assert NATIVE in listed(made)


def test_what_nft_cannot_take_away_either_is_said() -> None:
    with namespace() as made, made.entered():
        firewall.install(least(Backend.IPTABLES_NFT))
        made.run("nft", "add rule ip filter INPUT ct state vmap { new : jump QFILTER-IN }")
        with pytest.raises(FirewallError) as caught:
            firewall.remove()
        assert "Device or resource busy" in caught.value.output
        assert "to let packets pass all the same: `nft flush chain ip filter QFILTER-IN`" in caught.value.output
        assert "iptables-nft ipv4: filter QFILTER-IN: not wanted" in caught.value.output
        assert "iptables-nft ipv6: filter QFILTER-IN and its jump removed" in caught.value.output


@pytest.mark.needs("nfqueue")
def test_the_end_of_a_service_removes_its_rules_beside_such_a_rule(lab: Lab, policy_file: PolicyFile) -> None:
    words = qfilter("run", policy_file(POLICY), "--backend", "iptables-nft", "--compare", "0.1")
    with lab.gateway.start(*words) as running:
        running.wait_for(READY)
        add_native(lab.gateway, "FORWARD")
        running.wait_for("nft has put rules into")
        assert running.stop() == 0
    assert "QFILTER" not in snapshot(lab.gateway)
    assert NATIVE in listed(lab.gateway)
    refused = command(lab.gateway, "run", policy_file(POLICY), "--backend", "iptables-nft", check=False)
    assert (refused.returncode, "move them into a table of their own" in refused.stderr) == (4, True)
    assert "QFILTER" not in snapshot(lab.gateway)


COMMENTS = {
    "another charset": b"caf\xe9",
    "an escape": b"\x1b[31m",
    "what ends a line elsewhere": "a\r\x0b\x85\u2028b".encode(),
    "a quote": b'say "-j QFILTER-IN" and \'',
}


@pytest.mark.parametrize("backend", IPTABLES)
@pytest.mark.parametrize("comment", COMMENTS.values(), ids=COMMENTS)
def test_whatever_stands_in_a_comment(backend: Backend, comment: bytes) -> None:
    rules = least(backend)
    kind = backend.removeprefix("iptables-")
    match = ("-m", "comment", "--comment", comment.decode("utf-8", "surrogateescape"))
    with namespace() as made, made.entered():
        made.run(f"iptables-{kind}", "-A", "INPUT", *match, "-j", "ACCEPT")
        before = snapshot(made)
        firewall.install(rules)
        assert firewall.status(rules).differences == ()
        made.run(f"iptables-{kind}", "-I", "INPUT", *match, "-j", "ACCEPT")
        made.run(f"iptables-{kind}", "-I", "INPUT", *match, "-j", "QFILTER-IN")
        made.run(f"iptables-{kind}", "-I", "QFILTER-IN", *match, "-j", "ACCEPT")
        found = firewall.status(rules)
        chain = found.found.states[backends.rulesets(backend)[0]].chains[Hook.INPUT]
        printed = (*found.remarks, *found.differences, *chain.rules)
        assert len(found.differences) == 2
        assert all(line.isprintable() for line in printed)
        firewall.remove()
        made.run(f"iptables-{kind}", "-D", "INPUT", "1")
        assert snapshot(made) == before


@pytest.mark.parametrize("backend", IPTABLES)
def test_a_listing_that_cannot_be_understood_does_not_keep_the_others(
    backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with namespace() as made, made.entered():
        firewall.install(gateway(backend))
        fake = Tools(tmp_path, monkeypatch)
        fake.replace(f"{backend}-save", "echo '*filter'; echo '-A INPUT -m comment --comment \"QFILTER-IN'")
        with pytest.raises(FirewallError) as caught:
            firewall.remove()
        unseen, *removed = caught.value.output.splitlines()
        assert unseen.startswith(f"{backend} ipv4: cannot be looked at: read {backend} ipv4: what its tool printed")
        assert removed == [
            f"{backend} ipv6: filter QFILTER-IN and its jump removed",
            f"{backend} ipv6: filter QFILTER-FWD and its jump removed",
        ]
        fake.restore()
        assert firewall.remove()


THEIRS = {
    "a rule": ("iptables-nft -A INPUT -p tcp -j DROP", "meta l4proto tcp counter drop"),
    "a policy": ("iptables-nft -P INPUT DROP", "type filter hook input priority filter; policy drop;"),
    "a chain": ("iptables-nft -N THEIRS", "chain THEIRS {"),
    "a set": ("nft add set ip filter theirs { type ipv4_addr; }", "set theirs {"),
}


@pytest.mark.parametrize(("theirs", "line"), THEIRS.values(), ids=THEIRS)
def test_what_others_write_at_the_last_moment_stays(theirs: str, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the last look, whose last step lists the base chains, and the removal."""
    with namespace() as made, made.entered():
        firewall.install(least(Backend.IPTABLES_NFT))
        run = tools.run
        looks: list[Command] = []

        def write_after_the_second_look(given: Command) -> str:
            said = run(given)
            if given.words[1:] == ("--json", "list", "chains"):
                looks.append(given)
                if len(looks) == 3:  # both families, and IPv4 again
                    made.run(*theirs.split())
            return said

        monkeypatch.setattr(tools, "run", write_after_the_second_look)
        assert firewall.remove() == (
            "iptables-nft ipv4: filter QFILTER-IN and its jump removed",
            "iptables-nft ipv6: filter QFILTER-IN and its jump removed",
        )
        assert len(looks) > 3
        assert "QFILTER" not in snapshot(made)
        assert line in map(str.strip, listed(made).splitlines())
        assert "table ip6 filter" not in snapshot(made)


@pytest.mark.parametrize(("theirs", "line"), THEIRS.values(), ids=THEIRS)
def test_what_others_wrote_into_tables_that_qfilter_made_stays(theirs: str, line: str) -> None:
    with namespace() as made, made.entered():
        firewall.install(gateway(Backend.IPTABLES_NFT))
        made.run(*theirs.split())
        assert firewall.remove()
        assert "QFILTER" not in snapshot(made)
        assert line in map(str.strip, listed(made).splitlines())
        assert "table ip6 filter" not in snapshot(made)


@pytest.mark.parametrize("backend", IPTABLES)
def test_a_rule_put_before_the_jump_at_once_does_not_undo_the_installation(
    backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = least(backend)
    kind = backend.removeprefix("iptables-")
    with namespace() as made, made.entered():
        fake = Tools(tmp_path, monkeypatch)
        fake.replace(f"iptables-{kind}-restore", '$real "$@"', f"iptables-{kind} -I INPUT -i docker0 -j ACCEPT")
        assert firewall.install(rules)
        fake.restore()
        assert firewall.differences(rules, firewall.installed()) == (
            f"{backend} ipv4: filter QFILTER-IN: jumped to from INPUT rule 2, expected only INPUT rule 1",
        )


@pytest.mark.parametrize("backend", IPTABLES)
def test_a_jump_that_is_gone_at_once_undoes_the_installation(
    backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = backend.removeprefix("iptables-")
    with namespace() as made, made.entered():
        before = snapshot(made)
        fake = Tools(tmp_path, monkeypatch)
        fake.replace(f"iptables-{kind}-restore", '$real "$@"', f"iptables-{kind} -F INPUT")
        with pytest.raises(FirewallError, match="jumped to from nowhere"):
            firewall.install(least(backend))
        fake.restore()
        assert snapshot(made) == before
