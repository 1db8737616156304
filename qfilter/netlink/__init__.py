"""What the kernel knows, over netlink and /proc: the wire format, queues and who holds them, interface names."""
