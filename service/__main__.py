"""The command line: `feature-agent COMMAND`. Exit status: 0 success, 1 failed work, 2 bad input, said in one line."""

from __future__ import annotations

import sys
from importlib import import_module

import click

from service import __version__
from service.commands.failures import CommandFailed, InputRefused
from service.commands.garbage import gc_paused

COMMANDS = {
    "serve": ("service.commands.serve:serve", "Run the API."),
    "worker": ("service.commands.worker:worker", "Run extractions that the API accepted."),
    "migrate": ("service.commands.migrate:migrate", "Bring the database to this release's schema."),
    "demo": ("tools.demo.command:demo", "Run the main job end to end on sample data and show its telemetry."),
    "doctor": ("tools.operator.doctor:doctor", "Check every dependency and setting, and say how to fix what fails."),
    "datasets": ("tools.operator.datasets:datasets", "Add, list and show datasets."),
    "usage": ("tools.operator.usage:usage", "List the principals that keep the most."),
    "jobs": ("tools.operator.jobs:jobs", "List, show, retry and cancel extractions of all principals."),
    "webhooks": ("tools.operator.webhooks:webhooks", "List, show and retry webhooks of all principals."),
    "backup": ("tools.backup.commands:backup", "Back up the database and all its files."),
    "restore": ("tools.backup.commands:restore", "Bring a backup back."),
    "keys": ("tools.operator.keys:keys", "Create, list and revoke API keys."),
    "token": ("tools.operator.token:token", "Exchange an API key for an access token."),
}
"""Command → where it is and what it is for; a command's module is imported when it is called, so that help is quick."""


class LazyGroup(click.Group):
    """A group that imports the module of the one command that is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """All commands, in the order a newcomer meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """The command of that name, or None."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        with gc_paused():
            command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)  # noqa: S101 - a wrong table above is a programming error
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """List the commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="feature-agent")
def cli() -> None:
    """Turn a sentence into validated machine-learning features.

    Every command reads its settings from the environment and `.env`; see the README for their names.
    """


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and give its exit status."""
    try:
        status = cli.main(args=arguments, prog_name="feature-agent", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as help_asked:
        click.echo(help_asked.format_message())
        return 2
    except click.ClickException as error:
        return _say(error.format_message(), status=2)
    except InputRefused as error:
        return _say(str(error), status=2)
    except CommandFailed as error:
        return _say(str(error), status=1)
    except click.Abort:
        return _say("stopped", status=1)
    return status if isinstance(status, int) else 0


def _say(message: str, *, status: int) -> int:
    click.echo(f"feature-agent: {' '.join(message.split())}", err=True)
    return status


def run() -> None:
    """Entry point of the `feature-agent` script."""
    sys.exit(main())


if __name__ == "__main__":
    run()
