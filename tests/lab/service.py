"""`qfilter run` inside a namespace, as an operator would start it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.lab.namespace import Namespace
from tests.lab.process import LabError, Running

READY = "qfilter: serving"
"""How the line begins that it prints when queues are bound and rules are installed."""


def qfilter(*arguments: str | Path) -> list[str]:
    """The command line of the qfilter that is installed beside this Python."""
    return [str(Path(sys.executable).with_name("qfilter")), *map(str, arguments)]


@contextmanager
def serving(
    namespace: Namespace,
    policy: Path,
    *options: str,
    on_line: Callable[[str], None] | None = None,
    extra_environment: Mapping[str, str] | None = None,
    terminal: bool = False,
    timeout: float = 20.0,
) -> Iterator[Running]:
    """`qfilter run POLICY` from the moment that it serves; at the end it gets SIGTERM and must exit with 0.

    A test may end it before, in its own way. After an exception it is ended too, with no word about how.
    """
    command = qfilter("run", policy, *options)
    with namespace.start(*command, on_line=on_line, extra_environment=extra_environment, terminal=terminal) as service:
        try:
            service.wait_for(READY, timeout=timeout)
            yield service
        except BaseException:
            if service.exit_code is None:
                with suppress(LabError):
                    service.stop(timeout=5.0)
            raise
        if service.exit_code is None and (code := service.stop()):
            raise LabError(f"{service.command}: exit code {code} after SIGTERM:\n{service.output}")
