"""The child of alone.py: python -m benchmarks.loading POLICY DOCUMENT prints the seconds of each step.

`load` is from the file to the policy. `plan` and `index` are compiling: Python's part, from the policy to the plan
document, which it leaves in DOCUMENT, and the engine's, from the document to what judges packets. A process of its own
for each time, so that nothing is warm and nothing of an earlier policy is in memory.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from qfilter import _native
from qfilter.compiler import compile_policy
from qfilter.compiler.encode import encode
from qfilter.model.plan import Capabilities
from qfilter.policy.load import load


def main() -> None:
    path, target = sys.argv[1:]
    start = time.perf_counter()
    policy = load(path)
    loaded = time.perf_counter()
    document = encode(compile_policy(policy, Capabilities(), install=False))
    planned = time.perf_counter()
    _native.Engine(document, None)
    end = time.perf_counter()
    Path(target).write_bytes(document)
    json.dump({"load": loaded - start, "plan": planned - loaded, "index": end - planned}, sys.stdout)


if __name__ == "__main__":
    main()
