"""Whatever went wrong before or in the middle, the next install or remove sets it right."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from qfilter import firewall
from qfilter.errors import FirewallError
from qfilter.firewall import tools
from qfilter.firewall.state import Command
from qfilter.model.hook import Hook
from qfilter.model.policy import Backend
from tests.kernel.firewall_rulesets import Tools, add_foreign, namespace, snapshot
from tests.lab.namespace import Namespace
from tests.lab.process import LabError
from tests.unit.firewall.kernel_rules import everything, gateway, least

BACKENDS = (
    pytest.param(Backend.IPTABLES_LEGACY, marks=pytest.mark.needs("iptables-legacy")),
    pytest.param(Backend.IPTABLES_NFT, marks=pytest.mark.needs("iptables-nft")),
)
each_backend = pytest.mark.parametrize("backend", BACKENDS)

DAMAGE = {
    "the jump is gone": ["-D INPUT -j QFILTER-IN"],
    "the jump is doubled": ["-A INPUT -j QFILTER-IN"],
    "the jump is tripled and last": ["-D INPUT -j QFILTER-IN", *["-A INPUT -j QFILTER-IN"] * 3],
    "a jump from elsewhere": ["-I FORWARD -p udp -g QFILTER-IN"],
    "the chain is empty": ["-F QFILTER-IN"],
    "a rule is gone": ["-D QFILTER-IN 2"],
    "a rule is too many": ["-I QFILTER-IN -j ACCEPT"],
    "a rule is doubled": ["-A QFILTER-IN -j NFQUEUE --queue-num 0"],
    "the chains lead into each other": ["-I QFILTER-IN -j QFILTER-FWD"],
    "the chain is gone": ["-D INPUT -j QFILTER-IN", "-F QFILTER-IN", "-X QFILTER-IN"],
    "all is gone": ["-F", "-X"],
    "a chain that the policy does not name": ["-N QFILTER-OUT", "-A OUTPUT -j QFILTER-OUT"],
    "a chain in the other table": ["-t mangle -N QFILTER-PRE"],
}


@pytest.fixture
def where() -> Iterator[Namespace]:
    """A namespace that this process is in, full of somebody else's rules."""
    with namespace() as made:
        add_foreign(made)
        with made.entered():
            yield made


def do(where: Namespace, backend: Backend, lines: list[str], prefix: str) -> None:
    for line in lines:
        where.run(f"{prefix}-{backend.removeprefix('iptables-')}", *line.split())


@each_backend
@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_seen_and_repaired_by_install_and_by_remove(where: Namespace, backend: Backend, damage: str) -> None:
    rules = gateway(backend)
    if damage == "all is gone":
        for prefix in ("iptables", "ip6tables"):  # of others too: nothing of theirs is to come back
            do(where, backend, DAMAGE[damage], prefix)
    before = snapshot(where)
    firewall.install(rules)
    standing = snapshot(where)

    do(where, backend, DAMAGE[damage], "ip6tables")
    assert firewall.differences(rules, firewall.installed())
    assert firewall.install(rules)
    assert unordered(snapshot(where)) == unordered(standing)

    do(where, backend, DAMAGE[damage], "iptables")
    firewall.remove()
    assert snapshot(where) == before


@each_backend
def test_a_rule_that_came_to_stand_before_the_jump_is_passed_again_and_kept(where: Namespace, backend: Backend) -> None:
    rules = gateway(backend)
    firewall.install(rules)
    do(where, backend, ["-I INPUT -j DOCKER"], "iptables")
    assert firewall.differences(rules, firewall.installed()) == (
        f"{backend.value} ipv4: filter QFILTER-IN: jumped to from INPUT rule 2, expected only INPUT rule 1",
    )
    firewall.install(rules)
    lines = [line for line in snapshot(where).splitlines() if line.startswith("-A INPUT -j ")]
    assert lines[lines.index("-A INPUT -j DOCKER") - 1] == "-A INPUT -j QFILTER-IN"


def unordered(text: str) -> list[str]:
    """iptables-nft lists a chain that was made again in another place."""
    return sorted(text.splitlines())


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tools:
    return Tools(tmp_path, monkeypatch)


FAILS = ("echo 'line 3 failed' >&2", "exit 1")
FAILS_AFTER_ONE_TABLE = ("sed /^COMMIT/q | $real --noflush", *FAILS)
ONCE = ('[ -e $0.failed ] && exec $real "$@"', "touch $0.failed")
"""Only the first call fails, so that what it half did can be put back."""


@each_backend
@pytest.mark.parametrize("lines", [FAILS, FAILS_AFTER_ONE_TABLE], ids=["at once", "after one table"])
def test_when_the_second_family_fails_the_first_is_undone(
    where: Namespace, fake: Tools, backend: Backend, lines: tuple[str, ...]
) -> None:
    before = snapshot(where)
    name = f"ip6tables-{backend.removeprefix('iptables-')}-restore"
    fake.replace(name, *ONCE, *lines)
    with pytest.raises(FirewallError) as caught:
        firewall.install(everything(backend))
    half = [f"{backend.value} ipv6"] if lines is FAILS_AFTER_ONE_TABLE else []
    back = ", ".join([*half, f"{backend.value} ipv4"])
    assert caught.value.output == f"line 3 failed\nput back as it was: {back}"
    assert name in caught.value.command
    assert snapshot(where) == before


@each_backend
def test_an_earlier_installation_is_put_back(where: Namespace, fake: Tools, backend: Backend) -> None:
    """Base chains that were made on the way stay until it is removed: taking them would drop what is queued."""
    before = snapshot(where)
    earlier = least(backend, Hook.INPUT, Hook.PREROUTING)
    firewall.install(earlier)
    fake.replace(f"ip6tables-{backend.removeprefix('iptables-')}-restore", *ONCE, *FAILS_AFTER_ONE_TABLE)
    with pytest.raises(FirewallError):
        firewall.install(everything(backend))
    assert firewall.differences(earlier, firewall.installed()) == ()
    firewall.remove()
    assert snapshot(where) == before


@each_backend
def test_what_cannot_be_put_back_is_said(where: Namespace, fake: Tools, backend: Backend) -> None:
    before = snapshot(where)
    name = f"ip6tables-{backend.removeprefix('iptables-')}-restore"
    fake.replace(name, "[ -e $0.failed ] && exit 1", "touch $0.failed", *FAILS_AFTER_ONE_TABLE)
    with pytest.raises(FirewallError) as caught:
        firewall.install(everything(backend))
    back, failed = caught.value.output.splitlines()[1:]
    assert back == f"put back as it was: {backend.value} ipv4"
    assert failed.startswith(f"{backend.value} ipv6 could not be put back: ")
    fake.restore()
    assert firewall.remove()
    assert snapshot(where) == before


def refused(where: Namespace, fake: Tools, backend: Backend, tool: str) -> list[str]:
    """What is said when `remove` meets a tool of IPv4 that fails; afterwards the next one removes the rest."""
    before = snapshot(where)
    firewall.install(gateway(backend))
    fake.replace(f"iptables-{backend.removeprefix('iptables-')}-{tool}", *FAILS)
    with pytest.raises(FirewallError) as caught:
        firewall.remove()
    fake.restore()
    assert firewall.remove()
    assert snapshot(where) == before
    return caught.value.output.splitlines()


@each_backend
def test_a_family_that_cannot_be_removed_does_not_keep_the_other(
    where: Namespace, fake: Tools, backend: Backend
) -> None:
    assert refused(where, fake, backend, "restore")[1:] == [
        f"{backend.value} ipv4: filter QFILTER-IN: not wanted",
        f"{backend.value} ipv4: filter QFILTER-FWD: not wanted",
        f"{backend.value} ipv6: filter QFILTER-IN and its jump removed",
        f"{backend.value} ipv6: filter QFILTER-FWD and its jump removed",
    ]


@each_backend
def test_a_ruleset_that_cannot_be_read_does_not_keep_the_others(
    where: Namespace, fake: Tools, backend: Backend
) -> None:
    unseen, *removed = refused(where, fake, backend, "save")
    assert unseen.startswith(f"{backend.value} ipv4: cannot be looked at: ")
    assert unseen.endswith("line 3 failed")
    assert removed == [
        f"{backend.value} ipv6: filter QFILTER-IN and its jump removed",
        f"{backend.value} ipv6: filter QFILTER-FWD and its jump removed",
    ]


@each_backend
def test_ctrl_c_in_the_middle_undoes_what_was_done(
    where: Namespace, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = snapshot(where)
    run = tools.run
    pressed: list[str] = []

    def pressed_at_the_second_family(command: Command) -> str:
        if "ip6tables" in command.words[0] and command.text and not pressed:
            pressed.append(snapshot(where))
            raise KeyboardInterrupt
        return run(command)

    monkeypatch.setattr(tools, "run", pressed_at_the_second_family)
    with pytest.raises(KeyboardInterrupt):
        firewall.install(everything(backend))
    assert "QFILTER-IN" in pressed[0]
    assert snapshot(where) == before


BEFORE, AFTER = ("kill -9 $PPID", "exit 1"), ('$real "$@"', "kill -9 $PPID")
HALF = ("sed /^COMMIT/q | $real --noflush", "kill -9 $PPID")


@each_backend
@pytest.mark.parametrize("lines", [BEFORE, HALF, AFTER], ids=["before", "between tables", "after"])
@pytest.mark.parametrize(
    ("prefix", "others"), [("iptables", False), ("ip6tables", True)], ids=["first family", "second, among others"]
)
def test_after_kill_9_install_and_remove_set_it_right(
    fake: Tools, backend: Backend, prefix: str, lines: tuple[str, ...], others: bool
) -> None:
    with namespace() as made, made.entered():
        if others:
            add_foreign(made)
        empty = snapshot(made)
        firewall.install(everything(backend))
        whole = snapshot(made)
        firewall.remove()
        name = f"{prefix}-{backend.removeprefix('iptables-')}-restore"

        def die() -> None:
            fake.replace(name, *lines)
            with pytest.raises(LabError):
                made.call(firewall.install, everything(backend))
            fake.restore()

        die()
        firewall.install(everything(backend))
        assert unordered(snapshot(made)) == unordered(whole)
        firewall.remove()
        assert snapshot(made) == empty
        die()
        firewall.remove()
        assert snapshot(made) == empty


LOOKS_ONCE = ('[ -e $0.looked ] || { touch $0.looked; exec $real "$@"; }',)


@each_backend
@pytest.mark.parametrize("others", [False, True], ids=["alone", "among others"])
@pytest.mark.parametrize("lines", [BEFORE, AFTER], ids=["before", "after"])
def test_a_removal_that_was_killed_is_finished_by_the_next(
    fake: Tools, backend: Backend, lines: tuple[str, ...], others: bool
) -> None:
    with namespace() as made, made.entered():
        if others:
            add_foreign(made)
        empty = snapshot(made)
        firewall.install(everything(backend))
        if backend is Backend.IPTABLES_NFT and not others:  # no tool is needed, but one to look again at each family
            fake.replace("ip6tables-nft-save", *LOOKS_ONCE, *lines)
        else:
            fake.replace(f"{backend.value}-restore", *lines)
        with pytest.raises(LabError):
            made.call(firewall.remove)
        fake.restore()
        firewall.remove()
        assert snapshot(made) == empty
