"""Kernel rules that feed the queue: one desired state, three tools."""

from qfilter.firewall.apply import differences, install, remove
from qfilter.firewall.feeding import Feed, feeds, unheld, unserved
from qfilter.firewall.locking import lock, lock_or_reason
from qfilter.firewall.looking import Installed, installed
from qfilter.firewall.probe import probe
from qfilter.firewall.render import render
from qfilter.firewall.state import PLACES, Chain, Command, Jump, Place, Ruleset, State, summary
from qfilter.firewall.status import Status, status
from qfilter.firewall.tools import families
from qfilter.firewall.watch import Watch

__all__ = [
    "PLACES",
    "Chain",
    "Command",
    "Feed",
    "Installed",
    "Jump",
    "Place",
    "Ruleset",
    "State",
    "Status",
    "Watch",
    "differences",
    "families",
    "feeds",
    "install",
    "installed",
    "lock",
    "lock_or_reason",
    "probe",
    "remove",
    "render",
    "status",
    "summary",
    "unheld",
    "unserved",
]
