"""qfilter: a userspace packet-verdict firewall for Linux."""
