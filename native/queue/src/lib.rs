//! NFQUEUE: one thread, one netlink socket, one queue. Knows nothing of policies: it asks a judge.
