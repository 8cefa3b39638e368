"""The three sides of a load, a process each: `python -m tests.benchmarks.loading SIDE …` prints the seconds."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import sqlalchemy as sa
from psycopg.adapt import Dumper
from psycopg.pq import Format
from psycopg.types.numeric import Int4, Int8

from tests.benchmarks import systems

if TYPE_CHECKING:
    from collections.abc import Iterable

SECRET = "k" * 16

TABLES = ("paged_orders", "paged_orders__rows", "paged_orders__deliveries", "erpmirror_changes")
"""The tables that a load writes."""


def ours(source: str, server: sa.URL, schema: str, folder: Path) -> Iterable[float]:
    """As a worker does it: full syncs until none is due. Yields the seconds of the first load, then of a second one."""
    from models.bookkeeping import due, streams  # noqa: PLC0415 - the other two sides must not load ours
    from models.db import migration  # noqa: PLC0415
    from models.db.database import Database  # noqa: PLC0415
    from workers import configuration, connectors, context  # noqa: PLC0415
    from workers.ingest import loop  # noqa: PLC0415
    from workers.queue import due_work  # noqa: PLC0415

    connectors.__path__.append(str(Path(systems.__file__).parent))
    file = folder / "erpmirror.toml"
    file.write_text(f'[connections.shop]\nsystem = "paged"\nurl = "{source}"\napi_key = "{SECRET}"\n')
    database = Database(server.update_query_dict({"options": f"-csearch_path={schema}"}))
    migration.migrate(database)
    settings = configuration.load(file)
    context.sync_streams(database, settings)
    mine = context.connection_context(database, settings, "shop")
    for _ in range(2):
        began = time.perf_counter()
        while due_work.has_work(mine, due.load(database))[1]:
            loop.full_sync(mine)
        yield time.perf_counter() - began
        with database.begin() as tx:
            streams.update(tx, "shop", "orders", full_due_at=database.now(tx))


def dlt(source: str, server: sa.URL, schema: str, folder: Path) -> Iterable[float]:
    """dlt's REST source into a dataset of its own. Yields the seconds of the first load, then of a second one."""
    import dlt as library  # noqa: PLC0415 - likewise
    from dlt.sources.rest_api import rest_api_source  # noqa: PLC0415

    plain = server.set(drivername="postgresql", password=server.password or "none")  # dlt requires a password
    destination = library.destinations.postgres(plain.render_as_string(hide_password=False))
    pipeline = library.pipeline(
        "orders", pipelines_dir=str(folder), destination=destination, dataset_name=schema, progress=None
    )
    endpoint = {
        "path": "orders/0",
        "data_selector": "items",
        "paginator": {"type": "json_link", "next_url_path": "next"},
    }
    for _ in range(2):
        began = time.perf_counter()
        read = rest_api_source(
            {
                "client": {"base_url": source},
                "resource_defaults": {"primary_key": "id", "write_disposition": "merge"},
                "resources": [{"name": "orders", "endpoint": endpoint}],
            }
        )
        pipeline.run(read, loader_file_format="csv").raise_on_failed_jobs()
        yield time.perf_counter() - began


class _Json(str):
    """JSON that is already encoded."""

    __slots__ = ()


class _JsonText(Dumper):
    def dump(self, obj: str) -> bytes:
        return obj.encode()


class _JsonBinary(_JsonText):
    format = Format.BINARY

    def dump(self, obj: str) -> bytes:
        return b"\x01" + obj.encode()


_FINISHED: dict[str, Callable[[Any], Any]] = {"jsonb": _Json, "int8": Int8, "int4": Int4}
"""Column types that psycopg cannot infer from the Python value."""


def copy(_source: str, server: sa.URL, schema: str, _folder: Path) -> Iterable[float]:
    """COPY of the mirror's rows, from memory into tables without index or constraint: as text, then as binary."""
    plain = server.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain, options=f"-csearch_path={schema}") as link:
        link.adapters.register_dumper(_Json, _JsonText)
        link.adapters.register_dumper(_Json, _JsonBinary)
        rows = {table: _fetch_rows(link, table) for table in TABLES}
        for how in ("", " (FORMAT binary)"):
            for table in TABLES:
                link.execute(f"DROP TABLE IF EXISTS copied_{table}")
                link.execute(f"CREATE TABLE copied_{table} AS SELECT * FROM {table} WITH NO DATA")
            link.commit()
            began = time.perf_counter()
            for table, finished in rows.items():
                with link.cursor() as cursor, cursor.copy(f"COPY copied_{table} FROM STDIN{how}") as into:
                    for row in finished:
                        into.write_row(row)
            link.commit()
            yield time.perf_counter() - began


def _fetch_rows(link: psycopg.Connection, table: str) -> list[tuple[Any, ...]]:
    described = link.execute(f"SELECT * FROM {table} LIMIT 0").description or []
    chosen = ", ".join(f'"{column.name}"' + "::text" * (column.type_display == "jsonb") for column in described)
    converters = [_FINISHED.get(column.type_display, _unchanged) for column in described]
    rows = link.execute(f"SELECT {chosen} FROM {table}").fetchall()
    return [
        tuple(None if value is None else convert(value) for convert, value in zip(converters, row, strict=True))
        for row in rows
    ]


def _unchanged(value: Any) -> Any:
    return value


SIDES: dict[str, Callable[[str, sa.URL, str, Path], Iterable[float]]] = {"ours": ours, "dlt": dlt, "copy": copy}

if __name__ == "__main__":
    side, source, server, schema, folder = sys.argv[1:]
    seconds = list(SIDES[side](source, sa.make_url(server), schema, Path(folder)))
    sys.stdout.write(json.dumps(seconds) + "\n")
