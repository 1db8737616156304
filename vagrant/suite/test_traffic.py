"""What the policy offers passes, in both families, before, during and after everything else."""

from __future__ import annotations

import pytest

from vagrant.suite.machines import SERVER, Machine, counts

ANSWERS = {4: "A", 6: "AAAA"}


def page(family: int) -> str:
    host = SERVER[4] if family == 4 else f"[{SERVER[6]}]"
    return f"curl --silent --show-error --fail --max-time 60 http://{host}/"


@pytest.mark.parametrize("family", [4, 6])
class TestWhatIsOfferedPasses:
    def test_a_page(self, client: Machine, firewall: Machine, family: int) -> None:
        before = counts(firewall)["web"]
        assert client.run(page(family)) == "hello\n"
        assert counts(firewall)["web"] > before

    def test_twenty_megabytes(self, client: Machine, server: Machine, family: int) -> None:
        there = server.run("sha256sum < /srv/www/large")
        assert client.run(page(family).replace("60", "600") + "large | sha256sum", timeout=700) == there

    def test_a_name(self, client: Machine, family: int) -> None:
        answer = client.run(f"dig +short +tries=3 +time=20 @{SERVER[family]} www.lab.test {ANSWERS[family]}")
        assert answer.strip() == SERVER[family]

    def test_a_ping(self, client: Machine, family: int) -> None:
        assert "5 received" in client.run(f"ping -c 5 -W 20 {SERVER[family]}")

    def test_a_login(self, client: Machine, firewall: Machine, family: int) -> None:
        """Far enough to be refused for the missing key: every packet of it crossed the firewall."""
        said = client.ask(
            "ssh -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o PasswordAuthentication=no "
            f"-o ConnectTimeout=60 nobody@{SERVER[family]} true"
        )
        assert "Permission denied (publickey" in said.stderr
        assert counts(firewall)["ssh"] > 0

    def test_what_is_not_offered_does_not(self, client: Machine, firewall: Machine, family: int) -> None:
        before = counts(firewall)["default forward"]
        said = client.ask(f"curl --silent --show-error --max-time 5 telnet://{page(family).split('//')[1][:-1]}:8080")
        assert said.returncode == 28, said.stderr
        assert counts(firewall)["default forward"] > before
