"""A running service, asked and told through a unix socket: a pure codec, a server, a client."""
