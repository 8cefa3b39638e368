"""What a database error means for the work, and its words, which never repeat a value.

Drivers' messages may quote a row: `Key (…)=(…)`, `invalid input syntax: "…"`, whatever a trigger raises. So `words`
takes from an error only names: of its kind, and of tables, columns, constraints and triggers.
"""

from __future__ import annotations

import re
import sqlite3
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

if TYPE_CHECKING:
    from models.db.database import Database


class Fault(StrEnum):
    """What went wrong.

    - `AWAY`: the server is down, full or shutting down, which says nothing about the work
    - `LOCKED`: another transaction holds the table, or on SQLite the whole database
    - `MISSING`: a table, column or key that we made is gone
    - `DENIED`: our login lacks a right
    - `REFUSED`: the database refuses these rows, by its own limits or by a rule that its owner added
    """

    AWAY = "away"
    LOCKED = "locked"
    MISSING = "missing"
    DENIED = "denied"
    REFUSED = "refused"


_REMEDIES = {
    Fault.MISSING: "run `erpmirror migrate`, which makes it anew",
    Fault.REFUSED: "change or remove that rule, and all goes on by itself",
}
_HELD = "another program holds the database, perhaps with an open transaction: end it there"

_LOCKED_STATES = {"55P03", "40P01", "40001"}  # lock_not_available, deadlock_detected, serialization_failure
_MISSING_STATES = {"42P01", "42703", "42P10", "42883"}  # table, column, unique key, function
_AWAY_CLASSES = {"08", "25", "53", "57", "58", "XX"}
_VALUES = "22"
"""PostgreSQL's class of errors about a value (SQLSTATE), whose messages quote it."""

_TABLE = re.compile(r'\b(?:COPY|INTO|UPDATE|FROM|TABLE)\s+(?:"?\w+"?\.)?"?([\w$]+)', re.IGNORECASE)
_NO_TABLE = re.compile(r"no such table: (?:main\.)?(\S+)")
_FUNCTION = re.compile(r'function ("[^"]+"|[\w.$]+)\(')
_CHANGES_TABLE = re.compile(r"\s*(?:ALTER|COMMENT|DROP|CREATE (?:UNIQUE )?INDEX)\b", re.IGNORECASE)
_SEQUENCE = re.compile(r"\b(?:nextval|setval)\(\W*(\w+)", re.IGNORECASE)
_WORD_BREAK = re.compile(r"(?<=[a-z])(?=[A-Z])")


class RowsDroppedError(Exception):
    """A trigger or rule of the database's owner drops rows in silence."""


def require_written(statement: str, table: str, *, rows: int, written: int) -> None:
    """Raise an IntegrityError if the database says that it wrote fewer rows than were given."""
    if written < rows:
        dropped = RowsDroppedError(f"a trigger or rule drops rows of {table} in silence")
        raise sa.exc.IntegrityError(statement, None, dropped)


def of(error: sa.exc.DBAPIError) -> Fault:
    """What went wrong."""
    if error.connection_invalidated:
        return Fault.AWAY
    if isinstance(error.orig, RowsDroppedError):
        return Fault.REFUSED
    if isinstance(error.orig, sqlite3.Error):
        return _of_sqlite(error, str(error.orig))
    state = _state(error)
    if state in _LOCKED_STATES:
        return Fault.LOCKED
    if state[:2] in _AWAY_CLASSES or (not state and not isinstance(error, sa.exc.DataError)):
        return Fault.AWAY
    return Fault.REFUSED if _in_function(error) else _of_statement(error, state)


def _of_statement(error: sa.exc.DBAPIError, state: str) -> Fault:
    if state in _MISSING_STATES:
        return Fault.MISSING
    # A row-level-security policy has the same state as a missing right, and refuses single rows.
    denied = state == "42501" and _diag(error, "source_function") != "ExecWithCheckOptions"
    return Fault.DENIED if denied else Fault.REFUSED


def _of_sqlite(error: sa.exc.DBAPIError, message: str) -> Fault:
    if isinstance(error, sa.exc.IntegrityError | sa.exc.DataError):
        return Fault.REFUSED
    named = _NO_TABLE.search(message)
    if named and named[1] not in (error.statement or ""):
        return Fault.REFUSED  # a trigger of the owner's needs a table that is gone
    known = {"locked": Fault.LOCKED, "no such": Fault.MISSING, "has no column": Fault.MISSING, "readonly": Fault.DENIED}
    broken = isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError)
    return next((found for part, found in known.items() if part in message), Fault.AWAY if broken else Fault.REFUSED)


def table(error: sa.exc.DBAPIError) -> str | None:
    """The table that the failed statement wrote or read."""
    found = _TABLE.search(error.statement or "")
    return _diag(error, "table_name") or (found[1] if found else None)


def words(error: sa.exc.DBAPIError, database: Database | None = None) -> str:
    """What the database says, by names alone. `database`: where to look up the name of a trigger that raised it."""
    if isinstance(error.orig, RowsDroppedError):
        return str(error.orig)
    if database is not None and _raised(error) and (trigger := _trigger(database, error)) is not None:
        return trigger
    if isinstance(error.orig, sqlite3.Error):
        return _line(str(error.orig)) if not _raised(error) else f"a trigger on {table(error)} refuses it"
    kind = _WORD_BREAK.sub(" ", type(error.orig).__name__).lower()
    if _raised(error):
        function = _FUNCTION.search(_diag(error, "context") or "")
        name = f"{function[1]}()" if function else "a function"
        return f"{name} of the database's owner, called for {table(error)}, ended with {kind}"
    if _state(error)[:2] == _VALUES or not (message := _diag(error, "message_primary")):
        return kind
    return _line(message)


def remedy(error: sa.exc.DBAPIError, database: Database | None = None) -> str:
    """The words, and what a person can do about it; for errors that concern more than one row."""
    found, on_sqlite = of(error), isinstance(error.orig, sqlite3.Error)
    if found is Fault.LOCKED:
        return _HELD if on_sqlite else f"another program's transaction locks the table {table(error)}: end it there"
    said = words(error, database)
    if found is Fault.DENIED:
        return f"{said}: {_FILE_RIGHT if on_sqlite else _right(error, said)}"
    if found is Fault.AWAY:
        return f"the database cannot be used: {said}"
    return f"{said}; {_REMEDIES[found]}"


_FILE_RIGHT = "let the workers' user write the file and its folder"


def _right(error: sa.exc.DBAPIError, said: str) -> str:
    """What to give to our login on PostgreSQL; told from the statement, as a server may speak any language."""
    statement, login = error.statement or "", "the login in [database] url"
    sequence = _SEQUENCE.search(statement)
    if sequence and sequence[1] in said:
        return f"GRANT USAGE, SELECT ON SEQUENCE {sequence[1]} to {login}"
    if _CHANGES_TABLE.match(statement):
        return f"ALTER TABLE {table(error)} OWNER TO {login}: only a table's owner may add columns"
    if statement.lstrip().upper().startswith("CREATE"):
        return f"GRANT USAGE, CREATE on the schema to {login}"
    return f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table(error)} to {login}"


def _state(error: sa.exc.DBAPIError) -> str:
    return str(getattr(error.orig, "sqlstate", None) or "")


def _diag(error: sa.exc.DBAPIError, name: str) -> Any:
    return getattr(getattr(error.orig, "diag", None), name, None)


def _in_function(error: sa.exc.DBAPIError) -> bool:
    return _FUNCTION.search(_diag(error, "context") or "") is not None


def _raised(error: sa.exc.DBAPIError) -> bool:
    """Whether a trigger of the database's owner raised it, in its own words."""
    return getattr(error.orig, "sqlite_errorname", "") == "SQLITE_CONSTRAINT_TRIGGER" or _in_function(error)


_SQLITE_TRIGGERS = sa.text(
    "SELECT name, instr(sql, :message) > 0 FROM sqlite_master WHERE type = 'trigger' AND lower(tbl_name) = lower(:name)"
)
_POSTGRESQL_TRIGGERS = sa.text(
    "SELECT t.tgname, position(:message IN p.prosrc) > 0 FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid "
    "WHERE NOT t.tgisinternal AND t.tgrelid = to_regclass(quote_ident(:name))"
)


def _trigger(database: Database, error: sa.exc.DBAPIError) -> str | None:
    """The trigger that raised the error. Its message is repeated only if its source has it word for word."""
    message = _diag(error, "message_primary") or str(error.orig)
    query = _SQLITE_TRIGGERS if database.is_sqlite else _POSTGRESQL_TRIGGERS
    with database.read() as tx:
        found = {row[0]: bool(row[1]) for row in tx.execute(query, {"message": message, "name": table(error) or ""})}
    verbatim = [name for name, has_message in found.items() if has_message]
    names = ", ".join(f'"{name}"' for name in sorted(verbatim or found))
    if not names:
        return None
    return f"the trigger {names} on {table(error)} refuses it" + (f": {_line(message)}" if verbatim else "")


def _line(message: str) -> str:
    return " ".join(message.split())[:200]
