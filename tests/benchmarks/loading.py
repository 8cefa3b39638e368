"""The three that load, each in a process of its own: `python -m tests.benchmarks.loading SIDE …` prints its seconds."""

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

TABLES = ("paged_orders", "paged_orders__rows", "paged_orders__deliveries", "changes")
"""What stands in the mirror afterwards."""


def ours(source: str, server: sa.URL, schema: str, folder: Path) -> Iterable[float]:
    """A worker's way: full readings until none is due. The first load, then the same again."""
    from models.bookkeeping import due, streams
    from models.db import migration
    from models.db.database import Database
    from workers import configuration, connectors, context
    from workers.ingest import loop
    from workers.queue import due_work

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
    """Its own REST source into its own dataset. The first load, then the same again."""
    import dlt as library  # noqa: PLC0415 - see above
    from dlt.sources.rest_api import rest_api_source  # noqa: PLC0415

    plain = server.set(drivername="postgresql", password=server.password or "none")  # it insists on one
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
    """JSON that is a text already."""

    __slots__ = ()


class _JsonText(Dumper):
    def dump(self, obj: str) -> bytes:
        return obj.encode()


class _JsonBinary(_JsonText):
    format = Format.BINARY

    def dump(self, obj: str) -> bytes:
        return b"\x01" + obj.encode()


_FINISHED: dict[str, Callable[[Any], Any]] = {"jsonb": _Json, "int8": Int8, "int4": Int4}
"""What a driver cannot tell from a Python value alone."""


def copy(_source: str, server: sa.URL, schema: str, _folder: Path) -> Iterable[float]:
    """The rows as they stand in the mirror, from memory into tables without index or constraint: as text, as binary."""
    plain = server.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain, options=f"-csearch_path={schema}") as connection:
        connection.adapters.register_dumper(_Json, _JsonText)
        connection.adapters.register_dumper(_Json, _JsonBinary)
        rows = {table: _held(connection, table) for table in TABLES}
        for how in ("", " (FORMAT binary)"):
            for table in TABLES:
                connection.execute(f"DROP TABLE IF EXISTS copied_{table}")
                connection.execute(f"CREATE TABLE copied_{table} AS SELECT * FROM {table} WITH NO DATA")
            connection.commit()
            began = time.perf_counter()
            for table, held in rows.items():
                with connection.cursor() as cursor, cursor.copy(f"COPY copied_{table} FROM STDIN{how}") as into:
                    for row in held:
                        into.write_row(row)
            connection.commit()
            yield time.perf_counter() - began


def _held(connection: psycopg.Connection, table: str) -> list[tuple[Any, ...]]:
    described = connection.execute(f"SELECT * FROM {table} LIMIT 0").description or []
    chosen = ", ".join(f'"{column.name}"' + "::text" * (column.type_display == "jsonb") for column in described)
    finish = [_FINISHED.get(column.type_display, _as_it_is) for column in described]
    rows = connection.execute(f"SELECT {chosen} FROM {table}").fetchall()
    return [
        tuple(None if value is None else as_(value) for as_, value in zip(finish, row, strict=True)) for row in rows
    ]


def _as_it_is(value: Any) -> Any:
    return value


SIDES: dict[str, Callable[[str, sa.URL, str, Path], Iterable[float]]] = {"ours": ours, "dlt": dlt, "copy": copy}

if __name__ == "__main__":
    side, source, server, schema, folder = sys.argv[1:]
    seconds = list(SIDES[side](source, sa.make_url(server), schema, Path(folder)))
    sys.stdout.write(json.dumps(seconds) + "\n")
