"""A private network for tests, the demo and the benchmarks: client - gateway - server in namespaces of their own.

    with Lab() as lab, http_server(lab.server, 80):
        assert curl(lab.client, lab.server.ipv6, 80).outcome is CONNECTED

Nothing outside the namespaces is touched, and everything is removed however the process ends.
"""
