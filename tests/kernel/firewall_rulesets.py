"""What the firewall's kernel tests share: a namespace, what stands in it as text, and what others put there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab.leftovers import fresh_names, remove
from tests.lab.namespace import Namespace
from tests.lab.process import run

SAVES = ("iptables-legacy-save", "ip6tables-legacy-save", "iptables-nft-save", "ip6tables-nft-save")

FOREIGN = """*nat
-A POSTROUTING -o eth9 -j MASQUERADE
COMMIT
*mangle
:PREROUTING ACCEPT [0:0]
-A PREROUTING -i eth9 -j MARK --set-xmark 0x1/0x1
COMMIT
*filter
:INPUT DROP [0:0]
:DOCKER - [0:0]
-A INPUT -m comment --comment "ours comes first: -j QFILTER-IN" -j ACCEPT
-A FORWARD -j DOCKER
-A OUTPUT -o eth9 -j ACCEPT
-A DOCKER -p tcp -m tcp --dport 80 -j RETURN
COMMIT
"""
"""Rules of somebody else, as an iptables-restore of either family and kind takes them."""


@contextmanager
def namespace() -> Iterator[Namespace]:
    """An empty namespace whose legacy tables have been touched: the kernel never takes those back."""
    (name,) = fresh_names("firewall")
    run(["ip", "netns", "add", name])
    try:
        made = Namespace(name)
        for tool in ("iptables-legacy", "ip6tables-legacy"):
            for table in ("filter", "mangle"):
                made.run(tool, "-t", table, "-S", check=False)
        yield made
    finally:
        remove(name)


def snapshot(where: Namespace) -> str:
    """Everything that stands, by every tool, without the comments that carry the time."""
    texts = [where.run(tool, check=False).stdout for tool in SAVES] + [where.run("nft", "list", "ruleset").stdout]
    return "\n".join(line for text in texts for line in text.splitlines() if not line.startswith("#"))


def add_foreign(where: Namespace) -> None:
    """Somebody else's rules: iptables of both kinds and families, and nft's own."""
    for kind in ("legacy", "nft"):
        for prefix in ("iptables", "ip6tables"):
            where.run(f"{prefix}-{kind}-restore", "--noflush", stdin=FOREIGN)
    where.run(
        "nft", "-f", "-", stdin="table inet theirs { chain input { type filter hook input priority 5; drop; }; }\n"
    )


class Tools:
    """A folder in front of PATH, for tools that fail or kill in the middle of their work."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        monkeypatch.setenv("PATH", str(folder), prepend=":")

    def replace(self, name: str, *lines: str) -> None:
        """A script in the place of a tool; `$real` is the tool itself."""
        path = self._folder / name
        path.write_text("\n".join(("#!/bin/sh", f"real={shutil.which(name, path='/usr/sbin:/sbin')}", *lines, "")))
        path.chmod(0o755)

    def restore(self) -> None:
        """The tools as they were."""
        for path in self._folder.iterdir():
            path.unlink()
