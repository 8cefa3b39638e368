"""Creates or upgrades the bookkeeping tables, under one lock, and reports whether they are of this version."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import sqlalchemy as sa

from models import private
from models.db import repair, tables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from alembic.config import Config

    from models.db.database import Database, Tx

State = Literal["missing", "old", "current", "newer", "unsupported", "damaged", "taken"]

HEAD = "0011"
"""The newest revision below `models/migrations`. Stated, because every process and each `/readyz` compare with it."""

MIGRATED = {"0006", "0007", "0008", "0009", "0010"}
"""Older revisions that a migration leads away from."""

_UNSUPPORTED = {"0001", "0002", "0003", "0004", "0005"}
"""Revisions before the first release, which no migration leads away from: the tables had other names."""

_SHOWN = 3
"""Names in a message."""

VERSION_TABLE = "erpmirror_version"
"""Not Alembic's default name: another application may use Alembic in the same database."""

_LOCK = 0x6572706D6972726F  # "erpmirro"

_REMEDIES: dict[State, str] = {
    "missing": "the database has no tables of ours yet; run `erpmirror migrate`",
    "old": "the database's tables are older than this erpmirror; run `erpmirror migrate`",
    "newer": "the database's tables are newer than this erpmirror; install the version that made them",
    "unsupported": (
        "the database's tables are of an erpmirror that this one cannot migrate; name a new database in [database], "
        "then run `erpmirror migrate` and `erpmirror backfill` for each connection"
    ),
    "damaged": "the database lacks {names}; run `erpmirror migrate`, which makes it anew",
    "taken": (
        "the database has {names} already, which erpmirror did not make: rename or drop it, or name another database "
        "or schema in [database], then run `erpmirror migrate`"
    ),
}


class WrongTablesError(Exception):
    """The tables are not those of this version. The message says what to do."""

    def __init__(self, state: State, names: Sequence[str] = ()) -> None:
        shown = [*names[:_SHOWN], *([f"{len(names) - _SHOWN} more"] if len(names) > _SHOWN else [])]
        super().__init__(_REMEDIES[state].format(names=", ".join(shown)))
        self.state = state


def migrate(database: Database) -> None:
    """Create or upgrade the tables, in one transaction. Raises `WrongTablesError` for tables that it cannot migrate."""
    from alembic import command  # noqa: PLC0415 - with it every process would take a tenth of a second longer to start

    if database.is_sqlite:
        file = Path(str(database.url.database))
        private.make_folder(file.parent, setting="`url` of [database]")
        private.make_file(file)
    with database.begin() as tx:
        if not database.is_sqlite:  # on SQLite `begin` has locked the whole database
            tx.exec_driver_sql("SET LOCAL lock_timeout = 0")  # another process that migrates takes as long as it takes
            tx.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
            tx.exec_driver_sql("SET LOCAL lock_timeout = '10s'")
        found, names = _state(tx)
        if found in {"newer", "unsupported", "taken"}:
            raise WrongTablesError(found, names)
        if found == "damaged":
            command.stamp(_config(tx), "head")  # in case that Alembic's own table is missing
        command.upgrade(_config(tx), "head")
        repair.repair(tx)
        _seed(tx, database)


def state(database: Database) -> State:
    """Whether the tables are those of this version. Creates nothing, not even the file."""
    if _has_no_file(database):
        return "missing"
    with database.read() as tx:
        return _state(tx)[0]


def require(database: Database) -> None:
    """Raise `WrongTablesError` unless the tables are those of this version. A missing index only makes them slow."""
    if _has_no_file(database):
        raise WrongTablesError("missing")
    with database.read() as tx:
        found, names = _state(tx)
    needed = [name for name in names if not name.startswith(repair.INDEX)]
    if found != "current" and not (found == "damaged" and not needed):
        raise WrongTablesError(found, needed)


def missing(database: Database) -> list[str]:
    """What is missing of tables of this version, in words."""
    with database.read() as tx:
        return _state(tx)[1]


def _has_no_file(database: Database) -> bool:
    return database.is_sqlite and not Path(str(database.url.database)).exists()


def is_ours(_object: object, name: str | None, type_: str, _reflected: object, _compare_to: object) -> bool:
    """Whether Alembic should compare this table: resource tables follow the vendors' fields, not migrations."""
    return type_ != "table" or name in tables.metadata.tables


def _state(tx: Tx) -> tuple[State, list[str]]:
    """The state, and what is missing or in the way."""
    found = _version_state(tx)
    if found == "missing" and (names := repair.in_the_way(tx)):
        return ("taken", names) if repair.missing_objects(tx) else ("damaged", [f"the table {VERSION_TABLE}"])
    if found == "current" and (names := repair.missing(tx)):
        return "damaged", names
    return found, []


def _version_state(tx: sa.Connection) -> State:
    revision = None
    if sa.inspect(tx).has_table(VERSION_TABLE):
        revision = tx.execute(sa.text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608 - our own name
    if revision is None:
        return "missing"
    if revision == HEAD:
        return "current"
    if revision in _UNSUPPORTED:
        return "unsupported"
    return "old" if revision in MIGRATED else "newer"


def _config(tx: sa.Connection) -> Config:
    from alembic.config import Config  # noqa: PLC0415 - as in `migrate`

    config = Config(attributes={"connection": tx})
    config.set_main_option("script_location", "models:migrations")
    return config


def _seed(tx: Tx, database: Database) -> None:
    last = tx.execute(sa.select(sa.func.coalesce(sa.func.max(tables.changes.c.id), 0))).scalar_one()
    rows: list[tuple[sa.Table, dict[str, Any]]] = [
        (tables.counter, {"one": 1, "last": repair.highest_revision(tx)}),
        (tables.feed, {"one": 1, "last": last, "name": secrets.token_hex(6)}),
    ]
    for table, row in rows:
        if tx.execute(sa.select(table.c.one)).scalar() is None:
            tx.execute(database.insert(table).values(**row).on_conflict_do_nothing())
