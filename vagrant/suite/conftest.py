"""Fixtures of the lab's suite. `vagrant/lab test` runs it, and says where the machines are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from vagrant.suite.machines import ATTACKER, QFILTER, Machine


def _machine(name: str) -> Machine:
    config = os.environ.get("QFILTER_SSH_CONFIG")
    if config is None:
        pytest.exit("QFILTER_SSH_CONFIG is not set: this suite is run by `make vagrant-test`", returncode=4)
    return Machine(name, Path(config))


@pytest.fixture(scope="session")
def client() -> Machine:
    machine = _machine("client")
    machine.run(f"ip address replace {ATTACKER[4]}/24 dev lan")
    # Deprecated: nothing else takes it for its source.
    machine.run(f"ip address replace {ATTACKER[6]}/64 dev lan nodad preferred_lft 0")
    return machine


@pytest.fixture(scope="session")
def server() -> Machine:
    return _machine("server")


@pytest.fixture(scope="session")
def firewall() -> Machine:
    return _machine("firewall")


@pytest.fixture
def calm(firewall: Machine) -> Iterator[None]:
    """Nobody is blocked for what an earlier attack did."""
    _forget(firewall)
    yield
    _forget(firewall)


def _forget(firewall: Machine) -> None:
    firewall.run(f"{QFILTER} set flush scanners; {QFILTER} set flush flooders")
