"""Messages for expected errors, each with its remedy."""

# ruff: noqa: PLC0415 - what a verb needs is imported when it runs: `--help` stays fast

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workers.cli.explanation import Explanation

_NO_RIGHT = "let this user write there, or correct {setting}"
_OF_FILES = {
    errno.EACCES: _NO_RIGHT,
    errno.EPERM: _NO_RIGHT,
    errno.EROFS: _NO_RIGHT,
    errno.ENOENT: "make the folder that it is to be in, or correct {setting}",
    errno.ENOTDIR: "a part of this path is a file: correct {setting}",
    errno.EEXIST: "there is a file of this name: remove it, or correct {setting}",
    errno.ENOSPC: "free some of its disk",
    errno.EDQUOT: "free some of its disk",
}
"""What helps where a file or folder cannot be used. `setting`: the note of the error (`private.make_folder`)."""


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
    from workers.errors import MisaskedError, VendorError
    from workers.gate.gate import GateClosed

    match error:
        case UserError() | SettingsError() | WrongTablesError() | UnsupportedDatabaseError() | IncompleteError():
            return str(error)
        case MisaskedError():
            return str(error)
        case UnicodeEncodeError(reason="surrogates not allowed"):
            return "a word of the command line is not in UTF-8, so nothing in the database can match it"
        case VendorError():
            return f"the vendor gave no answer, or refused: {error}"
        case GateClosed():
            return f"the account's gate is closed until {error.until:%Y-%m-%d %H:%M:%S} UTC: {error}"
        case _:
            explanation = of_service(error)
            return None if explanation is None else str(explanation)


def of_service(error: Exception) -> Explanation | None:
    """What happened to the database, the broker or a file of theirs, and what helps; None for any other error."""
    from workers.cli import broker_errors, database_errors

    return database_errors.explained(error) or broker_errors.explained(error) or _of_file(error)


def _of_file(error: Exception) -> Explanation | None:
    from workers.cli.explanation import Explanation

    if not isinstance(error, OSError) or isinstance(error, BrokenPipeError):  # the latter: our output's reader ended
        return None
    said = f"{error.filename or 'the operating system'}: {error.strerror or error}"
    if not error.filename or error.errno not in _OF_FILES:
        return Explanation(said)
    setting = next(iter(getattr(error, "__notes__", [])), "the path")
    return Explanation(said, _OF_FILES[error.errno].format(setting=setting))
