"""What the policy offers passes, in both families, before, during and after everything else."""

from __future__ import annotations

import pytest

from vagrant.suite.machines import SERVER, Machine, counts

ANSWERS = {4: "A", 6: "AAAA"}
families = pytest.mark.parametrize("family", [4, 6])


def page(family: int, path: str = "", *, seconds: int = 60) -> str:
    """The command that prints a page of the server's; exit code 28 when it takes longer."""
    return f"curl --silent --show-error --fail --max-time {seconds} {url('http', family)}/{path}"


def url(scheme: str, family: int) -> str:
    return f"{scheme}://{SERVER[4]}" if family == 4 else f"{scheme}://[{SERVER[6]}]"


@families
def test_a_page(client: Machine, firewall: Machine, family: int) -> None:
    before = counts(firewall)["web"]
    assert client.run(page(family)) == "hello\n"
    assert counts(firewall)["web"] > before


@families
def test_twenty_megabytes(client: Machine, server: Machine, family: int) -> None:
    there = server.run("sha256sum < /srv/www/large")
    assert client.run(page(family, "large", seconds=600) + " | sha256sum", timeout=700) == there


@families
def test_a_name(client: Machine, family: int) -> None:
    answer = client.run(f"dig +short +tries=3 +time=20 @{SERVER[family]} www.lab.test {ANSWERS[family]}")
    assert answer.strip() == SERVER[family]


@families
def test_a_ping(client: Machine, family: int) -> None:
    assert "5 received" in client.run(f"ping -c 5 -W 20 {SERVER[family]}")


@families
def test_a_login(client: Machine, firewall: Machine, family: int) -> None:
    """Far enough to be refused for the missing key: every packet of it crossed the firewall."""
    before = counts(firewall)["ssh"]
    said = client.ask(
        "ssh -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o PasswordAuthentication=no "
        f"-o ConnectTimeout=60 nobody@{SERVER[family]} true"
    )
    assert "Permission denied (publickey" in said.stderr
    assert counts(firewall)["ssh"] > before


@families
def test_what_is_not_offered_does_not(client: Machine, firewall: Machine, family: int) -> None:
    before = counts(firewall)["default forward"]
    said = client.ask(f"curl --silent --show-error --max-time 5 {url('telnet', family)}:8080")
    assert said.returncode == 28, said.stderr
    assert counts(firewall)["default forward"] > before
