"""The child of `Namespace.call`: a pickled function with arguments on standard input, its result on standard output."""

from __future__ import annotations

import os
import pickle
import sys


def main() -> None:
    # What the function prints must not end up between the bytes of the result.
    result = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    function, args, kwargs = pickle.load(sys.stdin.buffer)
    try:
        answer = (False, function(*args, **kwargs))
    except Exception as error:  # noqa: BLE001  the caller raises it, in its own process
        answer = (True, error)
    with result:
        pickle.dump(answer, result)


if __name__ == "__main__":
    main()
