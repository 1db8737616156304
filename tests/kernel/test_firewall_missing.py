"""A tool that is not there: what can be removed is, and what nobody can look at is said."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from qfilter import firewall
from qfilter.errors import FirewallError
from qfilter.fields import Family
from qfilter.firewall import tools, traces
from qfilter.firewall.state import Ruleset
from qfilter.model.policy import Backend
from tests.kernel.firewall_rulesets import namespace, snapshot
from tests.kernel.running import POLICY, PolicyFile, command
from tests.lab.service import qfilter
from tests.lab.topology import Lab
from tests.unit.firewall.kernel_rules import gateway, least

BACKENDS = (
    pytest.param(Backend.IPTABLES_LEGACY, marks=pytest.mark.needs("iptables-legacy")),
    pytest.param(Backend.IPTABLES_NFT, marks=pytest.mark.needs("iptables-nft")),
)
each_backend = pytest.mark.parametrize("backend", BACKENDS)


def folder_without(missing: str, folder: Path) -> Path:
    """The firewall tools of this machine but those whose names begin with a word."""
    folder.mkdir()
    for path in (*Path("/usr/sbin").glob("*tables*"), Path("/usr/sbin/nft")):
        if not path.name.startswith(missing):
            shutil.copy(path, folder / path.name, follow_symlinks=False)
    return folder


def hide(missing: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = f"{folder_without(missing, folder)}:/usr/bin"
    monkeypatch.setattr(tools, "_path", lambda: path)


@pytest.mark.needs("nfqueue")
@each_backend
def test_remove_takes_what_it_can_and_names_what_is_missing(
    lab: Lab, policy_file: PolicyFile, tmp_path: Path, backend: Backend
) -> None:
    command(lab.gateway, "install", policy_file(POLICY), "--backend", backend.value)
    folder = folder_without("ip6tables", tmp_path / "sbin")
    hidden = f"mount --bind {folder} /usr/sbin && exec {' '.join(qfilter('remove'))}"
    done = lab.gateway.run("sh", "-c", hidden, check=False)
    kind = backend.removeprefix("iptables-")
    assert (done.returncode, done.stdout) == (4, "")
    assert f"{backend.value} ipv6: cannot be looked at: ip6tables-{kind}-restore: not installed" in done.stderr
    assert f"{backend.value} ipv4: filter QFILTER-FWD and its jump removed" in done.stderr
    assert "QFILTER" not in lab.gateway.run(f"iptables-{kind}-save").stdout
    assert "QFILTER" in lab.gateway.run(f"ip6tables-{kind}-save").stdout
    assert command(lab.gateway, "remove").stdout.splitlines() == [
        f"{backend.value} ipv6: filter QFILTER-FWD and its jump removed",
        "removed",
    ]


@each_backend
def test_what_was_never_made_is_not_missed(backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that never had the other kind of iptables has nothing left to be told about."""
    other = "legacy" if backend is Backend.IPTABLES_NFT else "nft"
    with namespace() as made:
        before = snapshot(made)
        if other == "legacy":
            monkeypatch.setattr(traces, "has_legacy_tables", lambda _: False)  # the namespace was made with them
        with made.entered():
            for prefix in ("iptables", "ip6tables"):
                hide(f"{prefix}-{other}", tmp_path / prefix, monkeypatch)
                firewall.install(gateway(backend))
                assert firewall.remove()
        assert snapshot(made) == before


@each_backend
def test_install_names_the_missing_tool_first(
    backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide("ip6tables", tmp_path / "sbin", monkeypatch)
    able, problems = firewall.probe()
    assert backend not in able
    assert problems[backend].startswith("ip6tables-")
    with namespace() as made, made.entered():
        before = snapshot(made)
        with pytest.raises(FirewallError, match=f"^ip6tables-{backend.removeprefix('iptables-')}-restore: not inst"):
            firewall.install(least(backend))
        assert snapshot(made) == before


@pytest.mark.needs("iptables-nft")
def test_chains_are_seen_without_any_tool() -> None:
    rulesets = {family: Ruleset(Backend.IPTABLES_NFT, family) for family in Family}
    with namespace() as made, made.entered():
        assert not any(map(traces.may_hold, rulesets.values()))
        firewall.install(least(Backend.IPTABLES_NFT))
        made.run("iptables-nft-restore", "--noflush", stdin="*filter\n-F INPUT\n-F QFILTER-IN\n-X QFILTER-IN\nCOMMIT\n")
        assert {family: traces.may_hold(each) for family, each in rulesets.items()} == {
            Family.IPV4: False,
            Family.IPV6: True,
        }
        firewall.remove()


@pytest.mark.needs("nft")
def test_the_table_of_nft_is_seen_without_nft() -> None:
    with namespace() as made, made.entered():
        assert not traces.may_hold(Ruleset(Backend.NFT, None))
        made.run(
            "nft", "add table inet qfilter; add chain inet qfilter forward { type filter hook forward priority 0; }"
        )
        assert traces.may_hold(Ruleset(Backend.NFT, None))
        assert firewall.remove() == ("nft: delete table inet qfilter",)


RUNS = {"full": "mount -t tmpfs -o nr_inodes=1 none /run", "read-only": "mount -t tmpfs -o ro none /run"}


@pytest.mark.needs("nfqueue", "iptables-nft")
@pytest.mark.parametrize(
    ("mount", "why"), [("full", "No space left on device"), ("read-only", "Read-only file system")]
)
def test_remove_works_without_a_place_for_its_lock(lab: Lab, policy_file: PolicyFile, mount: str, why: str) -> None:
    before = snapshot(lab.gateway)
    command(lab.gateway, "install", policy_file(POLICY), "--backend", "iptables-nft")
    words = f"{RUNS[mount]} && exec {' '.join(qfilter('remove'))}"
    done = lab.gateway.run("sh", "-c", words, check=False)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "removed")
    assert why in done.stderr
    assert snapshot(lab.gateway) == before
