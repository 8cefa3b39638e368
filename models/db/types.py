"""Column types that are the same on PostgreSQL and SQLite: keys in byte order, instants, exact numbers and JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeDecorator

from models import exact

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect

BigId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
"""An id that the database assigns. SQLite does that only for a column declared as INTEGER."""

KeyText = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
"""Text compared byte by byte on every database, so that all writers lock their rows in one order."""

_SQLITE_INTEGER = 2**63
_INSTANT_WIDTH = len("0001-01-01 00:00:00.000000+00:00")
_DOUBLE_DIGITS = 15
"""Any decimal of this many significant digits survives a double."""


class Instant(TypeDecorator[datetime]):
    """An aware datetime, stored as UTC; on SQLite as text of a fixed width, so that texts sort by time.

    `isoformat` writes four digits of every year from 1 to 9999; `strftime` writes year 1 as `1` on Linux.
    """

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> sa.types.TypeEngine[Any]:
        """`timestamptz` on PostgreSQL, text on SQLite."""
        if dialect.name == "sqlite":
            return dialect.type_descriptor(sa.Text())
        return dialect.type_descriptor(sa.DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """UTC. Raises ValueError for a naive datetime, whose zone is unknown."""
        if value is None:
            return None
        if value.tzinfo is None:
            msg = f"an instant needs a zone: {value!r}"
            raise ValueError(msg)
        value = value.astimezone(UTC)
        return value.isoformat(" ", "microseconds") if dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """An aware datetime in UTC."""
        if value is None:
            return None
        if dialect.name == "sqlite":
            return datetime.fromisoformat(value.rjust(_INSTANT_WIDTH, "0"))  # earlier versions wrote year 1 as `1`
        return value.astimezone(UTC)  # type: ignore[no-any-return]


class ExactJSON(TypeDecorator[Any]):
    """JSON that keeps decimals: `jsonb` on PostgreSQL, text on SQLite."""

    impl = sa.JSON(none_as_null=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> sa.types.TypeEngine[Any]:
        """SQL NULL for None on both."""
        if dialect.name == "postgresql":
            return dialect.type_descriptor(postgresql.JSONB(none_as_null=True))
        return dialect.type_descriptor(sa.JSON(none_as_null=True))


class _NoAffinity(sa.types.UserDefinedType[Any]):
    """A SQLite column without affinity, which stores values as they are bound: NUMERIC would round long decimals."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "DECIMAL_BLOB"


def _double(number: Decimal) -> float | None:
    """The double that holds this number exactly (to 15 digits, which is what SQLite prints), else None."""
    double = float(number) if len(exact.significant_digits(number)) <= _DOUBLE_DIGITS else 0.0
    return double if Decimal(repr(double)) == number else None


class ExactNumber(TypeDecorator[Decimal]):
    """An exact decimal of any size: unbounded `numeric` on PostgreSQL.

    On SQLite a number where a double or a 64-bit integer holds it exactly, else its text.
    """

    impl = sa.Numeric
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> sa.types.TypeEngine[Any]:
        """`numeric` on PostgreSQL, a column without affinity on SQLite."""
        if dialect.name == "sqlite":
            return dialect.type_descriptor(_NoAffinity())
        return dialect.type_descriptor(sa.Numeric())

    def process_bind_param(self, value: Decimal | int | None, dialect: Dialect) -> Any:
        """On SQLite an int, a float or text, whichever is exact."""
        if value is None or dialect.name != "sqlite":
            return value
        number = Decimal(value)
        if number == number.to_integral_value():
            return int(number) if -_SQLITE_INTEGER < number < _SQLITE_INTEGER else format(number, "f")
        return _double(number) or format(number, "f")

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:  # noqa: ARG002 - the base's signature
        """Always a Decimal."""
        if value is None or isinstance(value, Decimal):
            return value
        return Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
