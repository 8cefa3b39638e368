"""What a task does with the errors of its work."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
import structlog

from tests import services
from tests.processes import TcpProxy
from workers.queue import app, tasks, wakeup

if TYPE_CHECKING:
    from models.db.database import Database
    from tests.workers.conftest import Connect


@services.ON_POSTGRESQL
def test_a_database_that_goes_away_during_the_work_is_one_line_in_the_log(
    anywhere: Connect, database: Database
) -> None:
    direct = database.url
    with anywhere(kinds={"goods": {"every": 60, "full_every": 3600}}) as six:
        six.vendor.objects["goods"] = {"1": {"v": 1}}
        six.work()
        six.vendor.objects["goods"] = {"1": {"v": 2}}
        six.webhook("1")
        waker = wakeup.Waker(app.create_app(six.context.settings, database), database)
        with TcpProxy(direct.render_as_string(hide_password=False)) as line:
            _lead(database, sa.make_url(line.address))
            six.vendor.meanwhile["goods/1"] = line.cut
            with structlog.testing.capture_logs() as logs:
                tasks._handle_wakeup(six.context, waker, wakeup.SYNC)
        assert ["six"] == [each["connection"] for each in logs if each["event"] == "database away"]
        _lead(database, direct)
        six.clock.advance(minutes=5)
        six.work()
        assert {"1": {"v": 2}} == six.live("goods")


@services.ON_POSTGRESQL
@pytest.mark.slow
def test_a_table_that_another_program_locks_is_one_line_in_the_log(anywhere: Connect, database: Database) -> None:
    with anywhere(kinds={"goods": {"every": 60, "full_every": 3600}}) as six:
        six.vendor.objects["goods"] = {"1": {"v": 1}}
        six.work()
        six.webhook("1")
        waker = wakeup.Waker(app.create_app(six.context.settings, database), database)
        with database.engine.begin() as held, structlog.testing.capture_logs() as logs:
            held.execute(sa.text("LOCK TABLE erpmirror_gates"))
            tasks._handle_wakeup(six.context, waker, wakeup.SYNC)
        assert ["six"] == [each["connection"] for each in logs if each["event"] == "database locked"]
        six.clock.advance(minutes=5)
        six.work()
        assert {"1": {"v": 1}} == six.live("goods")


def _lead(database: Database, url: sa.URL) -> None:
    """Reach the database at this address from now on."""
    database.close()
    database.url = url
    del database.engine
