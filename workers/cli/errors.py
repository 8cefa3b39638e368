"""Messages for expected errors, each with its remedy."""

# ruff: noqa: PLC0415 - what a verb needs is imported when it runs: `--help` stays fast

from __future__ import annotations

import errno

_BROKERS = {"amqp", "kombu", "redis"}
"""Packages whose errors mean that the broker is away. They are known by name: only `workers.queue` imports kombu."""


_NO_RIGHT = "let this user write there, or name another place in the settings"
_OF_FILES = {
    errno.EACCES: _NO_RIGHT,
    errno.EPERM: _NO_RIGHT,
    errno.EROFS: _NO_RIGHT,
    errno.ENOENT: "make its folder, or correct the path in the settings",
    errno.ENOTDIR: "a part of this path is a file: correct the path in the settings",
    errno.ENOSPC: "free some of its disk",
    errno.EDQUOT: "free some of its disk",
}
"""What helps where a file or folder cannot be used."""


class UserError(Exception):
    """Something that the user can correct; the message says how. `status`: the exit status."""

    status = 1


class CannotStartError(UserError):
    """A process that is to run for long cannot start, nor could it a second later: `up` does not try again."""

    status = 78  # EX_CONFIG of sysexits.h


def explained(error: Exception) -> str | None:
    """The message that is printed for an error; None if it is unexpected. Contains no secret."""
    from models.db.database import UnsupportedDatabaseError
    from models.db.migration import WrongTablesError
    from models.settings.load import SettingsError
    from workers.connectors.discovery import IncompleteError
    from workers.errors import VendorError
    from workers.gate.gate import GateClosed

    match error:
        case UserError() | SettingsError() | WrongTablesError() | UnsupportedDatabaseError() | IncompleteError():
            return str(error)
        case VendorError():
            return f"the vendor gave no answer, or refused: {error}"
        case GateClosed():
            return f"the account's gate is closed until {error.until:%Y-%m-%d %H:%M:%S} UTC: {error}"
        case _:
            return _service_error(error)


def _service_error(error: Exception) -> str | None:
    from workers.cli import database_errors

    match error:
        case _ if (explanation := database_errors.explained(error)) is not None:
            return str(explanation)
        case _ if type(error).__module__.partition(".")[0] in _BROKERS:
            return f"the broker cannot be reached: {_first_line(error)}; see [broker] url"
        case OSError() if not isinstance(error, BrokenPipeError):  # the program that reads our output has ended
            remedy = _OF_FILES.get(error.errno or 0)
            said = f"{error.filename or 'the operating system'}: {error.strerror or error}"
            return f"{said}; {remedy}" if remedy and error.filename else said
        case _:
            return None


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
