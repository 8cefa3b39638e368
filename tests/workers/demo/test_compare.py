"""The comparison finds every kind of difference, so it can serve as a proof."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from tests.mirroring import mirrored

if TYPE_CHECKING:
    from pathlib import Path

    from models.db.database import Database


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM directo_items WHERE _key = (SELECT min(_key) FROM directo_items)",
        "UPDATE directo_items SET _deleted_at = _changed_at WHERE _key = (SELECT min(_key) FROM directo_items)",
        "UPDATE directo_items SET _raw = '{}' WHERE _key = (SELECT min(_key) FROM directo_items)",
        "UPDATE directo_items SET _key = 'unknown' WHERE _key = (SELECT min(_key) FROM directo_items)",
    ],
)
def test_a_damaged_mirror_is_reported_as_different(sqlite: Database, tmp_path: Path, damage: str) -> None:
    with mirrored(sqlite, tmp_path, directo={"seed": 1, "options": {"resources": ["items"]}}) as mirror:
        mirror.work()
        assert {} == mirror.differences()
        with sqlite.begin() as tx:
            tx.execute(sa.text(damage))
        assert ["items"] == list(mirror.differences())
