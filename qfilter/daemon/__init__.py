"""The composition root: a policy in force. The only room that wires the others together."""

from qfilter.daemon.preparing import EngineName, capabilities, engine_maker, prepare
from qfilter.daemon.service import Service

__all__ = ["EngineName", "Service", "capabilities", "engine_maker", "prepare"]
