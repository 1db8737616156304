"""The command `qfilter`: one file a command.

Exit codes:
  0    done, and what was asked about is in order
  1    it is not: the policy does not load, a test failed, kernel rules differ, the capture is damaged
  2    the command line is wrong
  3    root or CAP_NET_ADMIN is missing
  4    this machine cannot do it, or a queue or a firewall tool refused
  130  ended by Ctrl-C
"""

from __future__ import annotations

import sys
from importlib import import_module

import click

from qfilter.cli.output import report_error
from qfilter.errors import QFilterError

# By name, so that `qfilter --help` does not load what only other commands need.
_COMMANDS = {
    "check": "check",
    "test": "test",
    "explain": "explain",
    "replay": "replay",
    "install": "install",
    "remove": "remove",
    "status": "status",
    "run": "run",
    "schema": "schema",
    "fields": "fields",
    "completion": "completion",
}


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = import_module(f"qfilter.cli.{_COMMANDS[cmd_name]}").command
        return command


@click.group(
    cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]}, epilog="\b" + (__doc__ or "")[48:]
)
@click.version_option(package_name="qfilter-firewall", prog_name="qfilter")
def cli() -> None:
    """One YAML policy, a verdict for every packet, and always the reason."""


def main() -> None:
    """Run the command line; the process ends with one of the exit codes above."""
    try:
        code = cli.main(prog_name="qfilter", standalone_mode=False)
    except click.exceptions.Exit as end:
        code = end.exit_code
    except click.exceptions.Abort:
        code = 130
    except click.ClickException as mistake:
        mistake.show()
        code = mistake.exit_code
    except QFilterError as error:
        code = report_error(error)
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        # Whoever read us has seen enough, as in `qfilter replay ... | head`.
        sys.stderr.close()
        code = 0
    sys.exit(code or 0)
