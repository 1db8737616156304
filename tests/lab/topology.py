"""client - gateway - server: two veth pairs, IPv4 and IPv6, forwarding on in the gateway.

             192.0.2.2        192.0.2.1   198.51.100.1        198.51.100.2
client  eth0 ----------- lan  gateway  wan ----------- eth0  server
        2001:db8:1::2  2001:db8:1::1   2001:db8:2::1  2001:db8:2::2
"""

from __future__ import annotations

import json
from types import TracebackType
from typing import Self

from tests.lab.leftovers import Janitor, fresh_names, remove, sweep
from tests.lab.namespace import Host, Namespace
from tests.lab.process import run, wait_until

CLIENT_MAC = "02:00:00:00:01:02"
LAN_MAC = "02:00:00:00:01:01"
WAN_MAC = "02:00:00:00:02:01"
SERVER_MAC = "02:00:00:00:02:02"

# The kernel's own habits that would make counts differ from run to run: duplicate address detection, router
# solicitation, limits on ICMP errors, and what a namespace inherits from this host (rp_filter, ip_forward).
_QUIET = {
    "net.ipv4.conf.all.rp_filter": 0,
    "net.ipv4.conf.default.rp_filter": 0,
    "net.ipv4.icmp_ratelimit": 0,
    "net.ipv4.icmp_echo_ignore_all": 0,
    "net.ipv6.icmp.ratelimit": 0,
    "net.ipv6.conf.all.disable_ipv6": 0,
    "net.ipv6.conf.default.disable_ipv6": 0,
    "net.ipv6.conf.default.accept_dad": 0,
    "net.ipv6.conf.default.dad_transmits": 0,
    "net.ipv6.conf.default.router_solicitations": 0,
    "net.ipv6.conf.default.accept_ra": 0,
}


class Lab:
    """The three namespaces while the `with` lasts. Nothing of it stands on this host's own interfaces or tables.

    Removed after exceptions and Ctrl-C by `__exit__`, after SIGKILL by the janitor, and what even that left by the
    sweep at the start of the next lab.
    """

    def __init__(self) -> None:
        client, gateway, server = fresh_names("client", "gateway", "server")
        self.client = Host(client, "192.0.2.2", "2001:db8:1::2", "eth0", CLIENT_MAC, router_mac=LAN_MAC)
        self.gateway = Host(gateway, "192.0.2.1", "2001:db8:1::1", "lan", LAN_MAC)
        self.server = Host(server, "198.51.100.2", "2001:db8:2::2", "eth0", SERVER_MAC, router_mac=WAN_MAC)
        self._janitor: Janitor | None = None

    @property
    def hosts(self) -> tuple[Host, Host, Host]:
        return self.client, self.gateway, self.server

    def __enter__(self) -> Self:
        sweep()
        self._janitor = Janitor([host.name for host in self.hosts])
        try:
            self._build()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def remove(self) -> None:
        """Kills everything inside and removes the namespaces; a second call does nothing."""
        if self._janitor is None:
            return
        try:
            for host in self.hosts:
                remove(host.name)
        finally:
            self._janitor.dismiss()
            self._janitor = None

    def _build(self) -> None:
        for host in self.hosts:
            run(["ip", "netns", "add", host.name])
            _calm(host, forwarding=host is self.gateway)
        self._connect_gateway()
        _connect_end(self.client, "192.0.2.1", "2001:db8:1::1")
        _connect_end(self.server, "198.51.100.1", "2001:db8:2::1")
        wait_until(lambda: all(map(_links_ready, self.hosts)), "links should be up and addresses usable")

    def _connect_gateway(self) -> None:
        self.gateway.ip(
            "link set lo up",
            f"link add lan address {LAN_MAC} type veth peer name eth0 address {CLIENT_MAC} netns {self.client.name}",
            f"link add wan address {WAN_MAC} type veth peer name eth0 address {SERVER_MAC} netns {self.server.name}",
            "link set lan up",
            "link set wan up",
            "addr add 192.0.2.1/24 dev lan",
            "addr add 2001:db8:1::1/64 dev lan nodad",
            "addr add 198.51.100.1/24 dev wan",
            "addr add 2001:db8:2::1/64 dev wan nodad",
        )


def _connect_end(host: Host, router_v4: str, router_v6: str) -> None:
    host.ip(
        "link set lo up",
        "link set eth0 up",
        f"addr add {host.ipv4}/24 dev eth0",
        f"addr add {host.ipv6}/64 dev eth0 nodad",
        f"route add 0.0.0.0/0 via {router_v4}",
        f"route add ::/0 via {router_v6}",
    )


def _calm(namespace: Namespace, *, forwarding: bool) -> None:
    for name, value in _QUIET.items():
        namespace.sysctl(name, value)
    namespace.sysctl("net.ipv4.ip_forward", int(forwarding))
    namespace.sysctl("net.ipv6.conf.all.forwarding", int(forwarding))


def _links_ready(namespace: Namespace) -> bool:
    links = json.loads(run(["ip", "-json", "-n", namespace.name, "address", "show"]).stdout)
    return all(
        link["operstate"] in ("UP", "UNKNOWN") and not any(address.get("tentative") for address in link["addr_info"])
        for link in links
        if "UP" in link["flags"]
    )
