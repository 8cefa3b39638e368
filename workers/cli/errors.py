"""Expected errors, each as a message for a person with its remedy."""

# ruff: noqa: PLC0415 - what a verb needs is imported when it runs: `--help` stays quick

from __future__ import annotations

_BROKERS = {"amqp", "kombu", "redis"}
"""Packages whose errors mean that the broker is away. Recognised by module: kombu is imported by the queue alone."""


class Problem(Exception):  # noqa: N818 - shown to a person with its remedy
    """Something that a person can correct; the message says how."""


def explained(error: Exception) -> str | None:
    """The message for a person; None for an unexpected error. Never shows a secret."""
    from models.db.migration import WrongTablesError
    from models.settings.load import SettingsError
    from workers.connectors.discovery import IncompleteError
    from workers.errors import VendorError
    from workers.gate.gate import GateClosed

    match error:
        case Problem() | SettingsError() | WrongTablesError() | IncompleteError():
            return str(error)
        case VendorError():
            return f"the vendor could not be asked, or refused: {error}"
        case GateClosed():
            return f"the account's gate is closed until {error.until:%Y-%m-%d %H:%M:%S} UTC: {error}"
        case _:
            return _about_a_service(error)


def _about_a_service(error: Exception) -> str | None:
    import sqlalchemy as sa

    match error:
        case sa.exc.OperationalError():
            return f"the database cannot be used: {_first_line(error.orig or error)}; see [database] url"
        case _ if type(error).__module__.partition(".")[0] in _BROKERS:
            return f"the broker cannot be reached: {_first_line(error)}; see [broker] url"
        case OSError() if not isinstance(error, BrokenPipeError):  # the program that reads our output has ended
            return f"{error.filename or 'the operating system'}: {error.strerror or error}"
        case _:
            return None


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
