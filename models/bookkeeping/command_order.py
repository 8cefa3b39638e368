"""The other commands of an object: which come before one, and which have come after it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from models.bookkeeping.commands import State, one
from models.db.outgoing_tables import OPEN, commands

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.bookkeeping.commands import Command
    from models.db.database import Tx


def first_open_before(tx: Tx, command: Command) -> Command | None:
    """The first of the commands that hold this one up; None if none does."""
    c = commands.c
    earlier = (*_of_its_object(command), sa.and_(OPEN), c.id < command.id)
    return one(tx, sa.select(commands).where(*earlier).order_by(c.id).limit(1))


def written_since(tx: Tx, command: Command) -> Command | None:
    """The last later command of the same object that the vendor has done, or may have; None if there is none."""
    c = commands.c
    written = c.state.in_((State.DONE, State.SENDING, State.UNCERTAIN))
    later = (*_of_its_object(command), written, c.id > command.id)
    return one(tx, sa.select(commands).where(*later).order_by(c.id.desc()).limit(1))


def _of_its_object(command: Command) -> tuple[sa.ColumnElement[bool], ...]:
    """The conditions: commands of the same object; none for a new one, as nothing equals NULL."""
    c = commands.c
    here = (c.connection == command.connection, c.resource == command.resource)
    return (*here, c.key == sa.literal(command.key, sa.Text))


def written_by_others(tx: Tx, command: Command, *, resource: str, keys: Sequence[str]) -> set[str]:
    """Which of these objects other commands have written."""
    c = commands.c
    same = (c.connection == command.connection, c.resource == resource, c.id != command.id)
    return set(tx.execute(sa.select(c.result_key).where(*same, c.result_key.in_(keys))).scalars())
