"""The program `erpmirror`, before anything slow is imported: until a verb runs, Ctrl-C ends it without a traceback."""

from __future__ import annotations

import signal


def main() -> None:
    """Run the command line."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else whoever started us ignores it
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from workers import cli  # noqa: PLC0415 - takes up to a second

    cli.main()
