"""`python -m loadtest run | gate | report | hpa | release`: send load, judge it, prove the autoscalers' targets.

Exit status: 0 pass, 1 fail, 2 bad input (one line says what), 3 not measured.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from loadtest.commands import add_gate, add_report, add_run
from loadtest.errors import BadInput, NotMeasured
from loadtest.hpa.commands import add_hpa
from loadtest.release import add_release


class Parser(argparse.ArgumentParser):
    """Says what was wrong in one line."""

    def error(self, message: str) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Raise BadInput instead of printing the whole usage."""
        raise BadInput(f"{self.prog}: {message}; --help lists what there is")


def parser() -> argparse.ArgumentParser:
    """Make the command line."""
    made = Parser(prog="python -m loadtest", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = made.add_subparsers(dest="command", required=True, parser_class=Parser)
    add_run(commands)
    add_gate(commands)
    add_report(commands)
    add_hpa(commands)
    add_release(commands)
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; gives its exit status."""
    try:
        asked = parser().parse_args(arguments)
        return int(asked.run(asked))
    except BadInput as error:
        sys.stderr.write(f"{' '.join(str(error).split())}\n")
        return 2
    except NotMeasured as error:
        sys.stderr.write(f"not measured: {' '.join(str(error).split())}\n")
        return 3
    except KeyboardInterrupt:
        sys.stderr.write("not measured: interrupted\n")
        return 3
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


if __name__ == "__main__":
    sys.exit(main())
