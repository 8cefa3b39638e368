"""A PostgreSQL data folder that was set back by a copy: readers are told, whoever remembers what they have read."""

from __future__ import annotations

import shutil
import subprocess
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from models.bookkeeping import journal
from models.db import migration
from models.db.database import Database
from models.values import Cause, Change, ChangeKind
from tests.chaos.servers import PostgreSQL

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

    from tests.receiver.conftest import Open


def _journal(database: Database, count: int) -> None:
    changes = [Change(str(number), ChangeKind.CREATED, None, {}) for number in range(count)]
    with database.begin() as tx:
        now = datetime.now(UTC)
        journal.append(tx, "shop", "catalogs.goods", changes, revision=1, cause=Cause.WEBHOOK, now=now)


def _page(client: httpx.Client, after: int) -> dict[str, Any]:
    answer = client.get("/changes", params={"after": after})
    assert 200 == answer.status_code, answer.text
    page: dict[str, Any] = answer.json()
    return page


@pytest.mark.postgresql
@pytest.mark.parametrize("with_the_machine", [False, True], ids=["data folder", "machine"])
def test_a_data_folder_that_was_set_back_is_noticed(tmp_path: Path, opened: Open, with_the_machine: bool) -> None:  # noqa: FBT001 - a parameter
    with PostgreSQL(tmp_path) as server:
        database = Database(server.address)
        migration.migrate(database)
        _journal(database, 5)
        with opened(database) as client:
            before = _page(client, 0)
        database.close()
        server.stop()
        copies = {server.data: tmp_path / "backup"}
        if with_the_machine:
            copies[tmp_path / "var"] = tmp_path / "var backup"
        for original, copy in copies.items():
            subprocess.run(["cp", "-a", original, copy], check=True)  # noqa: S607 - wherever it lies
        server.start()
        _journal(database, 5)
        with opened(database) as client:
            read = _page(client, 0)
        assert (before["feed"], 10) == (read["feed"], read["last"])
        database.close()
        server.stop()
        for original, copy in copies.items():
            shutil.rmtree(original)
            subprocess.run(["cp", "-a", copy, original], check=True)  # noqa: S607 - wherever it lies
        server.start()
        with opened(database) as client:
            if with_the_machine:  # now only the reader knows
                answer = client.get("/changes", params={"after": read["last"]})
                assert (410, "gone") == (answer.status_code, answer.json()["error"])
            assert read["feed"] != _page(client, 0)["feed"]
        database.close()
