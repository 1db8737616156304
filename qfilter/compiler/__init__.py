"""Policy + capabilities -> Plan. Pure: what this machine can do comes in as a value."""

from qfilter.compiler.compile import compile_policy

__all__ = ["compile_policy"]
