"""What README says of numbers on SQLite: how they are held, and that SQL calculates in doubles."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from models.db.types import ExactNumber

if TYPE_CHECKING:
    from pathlib import Path

_AMOUNTS = sa.Table("amounts", sa.MetaData(), sa.Column("amount", ExactNumber()))


@pytest.mark.parametrize(
    ("number", "held", "shown"),
    [
        ("14", "integer", 14),
        ("631.58", "real", 631.58),
        ("1234567890123.45", "real", 1234567890123.45),
        ("12345678901234567890", "text", "12345678901234567890"),
        ("0.1234567890123456789", "text", "0.1234567890123456789"),
    ],
)
def test_a_number_is_held_as_readme_says(tmp_path: Path, number: str, held: str, shown: object) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path}/numbers.db")
    with engine.begin() as tx:
        _AMOUNTS.create(tx)
        tx.execute(_AMOUNTS.insert(), {"amount": Decimal(number)})
        assert (held, shown) == tuple(tx.exec_driver_sql("SELECT typeof(amount), amount FROM amounts").one())
        assert Decimal(number) == tx.execute(sa.select(_AMOUNTS.c.amount)).scalar_one()
    engine.dispose()


def test_sql_adds_doubles_so_that_sums_want_rounding(tmp_path: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path}/numbers.db")
    with engine.begin() as tx:
        _AMOUNTS.create(tx)
        tx.execute(_AMOUNTS.insert(), [{"amount": Decimal(each)} for each in ("0.1", "0.2")])
        total, rounded = tx.exec_driver_sql("SELECT sum(amount), round(sum(amount), 2) FROM amounts").one()
    assert (0.30000000000000004, 0.3) == (total, rounded)
    engine.dispose()
