"""Packets in, verdicts out. No sockets: the loop around it does the I/O."""
