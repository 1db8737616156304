"""The command `qfilter`: one file a command.

Exit codes:
  0    done, and what was asked about is in order; `run` was ended by a signal
  1    it is not: the policy does not load, a test failed, kernel rules differ,
       the capture is damaged, a file cannot be read or written, no service
       answers or it refuses
  2    the command line is wrong
  3    root or CAP_NET_ADMIN is missing
  4    this machine cannot do it, or a queue or a firewall tool refused
  5    a fault of qfilter's own
  130  ended by Ctrl-C
"""

from __future__ import annotations

import os
import sys
from importlib import import_module

import click

from qfilter.cli.output import report

_COMMANDS = {
    "check": "Say what is wrong or odd about a policy.",
    "test": "Run the tests of a policy, and tell which rules have none.",
    "explain": "Tell why a packet gets its verdict.",
    "replay": "Judge the packets of a capture.",
    "install": "Install the kernel rules of a policy, without serving them.",
    "remove": "Remove every kernel rule of qfilter's.",
    "status": "Show what is installed and who holds the queues.",
    "run": "Put a policy in force.",
    "reload": "Put another policy in force while packets flow.",
    "stats": "Show what a running service has counted.",
    "set": "List and change the sets of a running service.",
    "schema": "Print the JSON Schema of policy files.",
    "fields": "List what a match can look at.",
    "completion": "Print the completion script of a shell.",
}
"""Each is in the module of its name; `qfilter --help` loads none of them."""


class _ReaderGoneError(Exception):
    """Whoever read standard output has seen enough, as in `qfilter replay ... | head`."""


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = import_module(f"qfilter.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as gone:
            raise _ReaderGoneError from gone  # click would end with 1, which means something else here


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="\b\n" + (__doc__ or "").partition("\n\n")[2],
)
@click.version_option(package_name="qfilter-firewall", prog_name="qfilter")
def cli() -> None:
    """One YAML policy, a verdict for every packet, and always the reason."""


def main() -> None:
    """Run the command line; the process ends with one of the exit codes above, and never with a traceback."""
    _open_closed_streams()
    try:
        code = _run()
        sys.stdout.flush()
    except (_ReaderGoneError, BrokenPipeError):
        # What is still in its buffer has nowhere to go when Python flushes it at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)


def _open_closed_streams() -> None:
    """Where a standard stream is closed nothing is read, and whatever is written is gone.

    Else the file, or the queue's socket, that is opened next has its number, and gets what is meant for the stream.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)  # the lowest that is free, which is the stream's own
            os.set_inheritable(descriptor, True)
            setattr(sys, name, os.fdopen(descriptor, mode))


def _run() -> int:
    try:
        return cli.main(prog_name="qfilter", standalone_mode=False) or 0
    except click.exceptions.Abort:
        return 130
    except click.ClickException as mistake:
        mistake.show()
        return mistake.exit_code
    except _ReaderGoneError:
        raise
    except Exception as error:  # noqa: BLE001 - people get a line, not a traceback
        return report(error)
