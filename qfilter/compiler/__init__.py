"""Policy + capabilities -> Plan, and the plan as a document. Pure: what this machine can do comes in as a value."""

from qfilter.compiler.compile import compile_policy, portable_plan
from qfilter.compiler.encode import encode
from qfilter.compiler.reads import needs_conntrack

__all__ = ["compile_policy", "encode", "needs_conntrack", "portable_plan"]
