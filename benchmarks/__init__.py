"""How fast qfilter is, measured in one run beside what it is compared with: `make bench`.

build.py      compiles the C programs in c/
policies.py   the policies, generated: for qfilter, and the same for iptables and nft
arena.py      client - gateway - server: the flood, the TCP stream, the ping-pong, the sink
subjects.py   who decides the packets, one context manager each
network.py    all subjects one after the other, round after round
growth.py     the same flood over numbers of rules, set entries, queues and bytes
alone.py      what needs no traffic: loading, compiling, memory, the matcher, replay
changes.py    reload and live sets while packets flow
targets.py    what is to be reached, and what was
report.py     JSON, Markdown and the plot in docs/
"""
