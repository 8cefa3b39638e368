"""The three sides of a load, a process each: `python -m tests.benchmarks.loading SIDE …`.

Prints a line of JSON: [seconds, requests that the vendor has received so far] of each load.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen
from xml.etree import ElementTree as ET

import psycopg
import sqlalchemy as sa
from psycopg.adapt import Dumper
from psycopg.pq import Format
from psycopg.types.numeric import Int4, Int8

from tests.benchmarks.source import COUNT, Source

if TYPE_CHECKING:
    from collections.abc import Iterable


def ours(url: str, source: Source, server: sa.URL, schema: str, folder: Path) -> Iterable[float]:
    """As a worker does it, until nothing is due. Yields the seconds of the first load, then of a second full sync."""
    from models.bookkeeping import due, streams  # noqa: PLC0415 - the other two sides must not load ours
    from models.db import migration  # noqa: PLC0415
    from models.db.database import Database  # noqa: PLC0415
    from tests.mirroring import table  # noqa: PLC0415
    from workers import configuration, context  # noqa: PLC0415
    from workers.ingest import loop  # noqa: PLC0415
    from workers.queue import due_work  # noqa: PLC0415

    file = folder / "erpmirror.toml"
    file.write_text(table("shop", source.settings | {"url": url, "requests_per_minute": 600_000}))
    database = Database(server.update_query_dict({"options": f"-csearch_path={schema}"}))
    migration.migrate(database)
    settings = configuration.load(file)
    context.sync_streams(database, settings)
    mine = context.connection_context(database, settings, "shop")
    for _ in range(2):
        began = time.perf_counter()
        while any(due_work.has_work(mine, due.load(database))):
            loop.full_sync(mine)
            loop.sync(mine)
        yield time.perf_counter() - began
        with database.begin() as tx:
            for resource in source.settings["resources"]:
                streams.update(tx, "shop", resource, full_due_at=database.now(tx))


def dlt(url: str, source: Source, server: sa.URL, schema: str, folder: Path) -> Iterable[float]:
    """dlt into a dataset of its own, merging by the key. Yields the seconds of the first load, then of a second one."""
    import dlt as library  # noqa: PLC0415 - likewise

    plain = server.set(drivername="postgresql", password=server.password or "none")  # dlt requires a password
    destination = library.destinations.postgres(plain.render_as_string(hide_password=False))
    pipeline = library.pipeline(
        "objects", pipelines_dir=str(folder), destination=destination, dataset_name=schema, progress=None
    )
    for _ in range(2):
        began = time.perf_counter()
        pipeline.run(_dlt_source(url, source), loader_file_format="csv").raise_on_failed_jobs()
        yield time.perf_counter() - began


def _dlt_source(url: str, source: Source) -> Any:
    """The same answers, as dlt's REST source reads them; it reads no XML, so that takes a resource of one's own."""
    from dlt.sources.rest_api import rest_api_source  # noqa: PLC0415

    if source.settings["system"] == "dilovod":
        return _packets(url, source)
    if "xml" in source.headers.get("Accept", ""):
        return _xml_resource(url, source)
    merged = {"primary_key": source.key, "write_disposition": "merge"}
    whole = {"name": source.resource, "endpoint": {"path": source.path, "paginator": "single_page"}, **merged}
    pages = {"type": "page_number", "base_page": 1, "total_path": "pagination.number_pages"}
    listed = {"path": source.path, "params": {"limit": 200, "show_inactive": "true"}, "paginator": pages}
    lines = {"name": "lines", "endpoint": listed | {"data_selector": source.resource}}
    by_id = {"path": source.path, "params": {"id": "{resources.lines.id}"}, "paginator": "single_page"}
    detail = {"name": source.resource, "endpoint": by_id | {"data_selector": "$"}, **merged}
    resources = [lines | {"selected": False}, detail] if source.settings["system"] == "wisedat" else [whole]
    return rest_api_source({"client": {"base_url": url, "headers": source.headers}, "resources": resources})


def _packets(url: str, source: Source) -> Any:
    """Lists of ids, then each object by its id, which is how Dilovod documents that an object is read."""
    import dlt as library  # noqa: PLC0415
    from dlt.sources.helpers import requests  # noqa: PLC0415

    def call(action: str, params: dict[str, Any]) -> Any:
        packet = {"version": "0.25", "key": source.settings["api_key"], "action": action, "params": params}
        answer = requests.post(url, data={"packet": json.dumps(packet)}).json()
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    def objects(resource: str) -> Iterable[dict[str, Any]]:
        listed = {"from": resource, "fields": {"id": "id"}}
        for offset in itertools.count(0, _PAGE):
            page = call("request", listed | {"limit": {"offset": offset, "count": _PAGE}})
            for line in page:
                found = call("getObject", {"id": line["id"]})
                # The rows by id would be columns to dlt, and PostgreSQL has 1,600 of those at most.
                parts = {
                    name: list(rows.values()) if rows else [] for name, rows in found.get("tableParts", {}).items()
                }
                yield {"id": line["id"], "header": found["header"]} | parts
            if len(page) < _PAGE:
                return

    return [
        library.resource(
            objects(resource), name=resource.replace(".", "_"), primary_key=source.key, write_disposition="merge"
        )
        for resource in source.settings["resources"]
    ]


_PAGE = 500


def _xml_resource(url: str, source: Source) -> Any:
    import dlt as library  # noqa: PLC0415
    from dlt.sources.helpers import requests  # noqa: PLC0415

    def records() -> Iterable[list[dict[str, Any]]]:
        body = requests.get(f"{url}/{source.path}", headers=source.headers).content
        found = [
            each.attrib | {part.tag: [dict(row.attrib) for row in part] for part in each}
            for each in ET.fromstring(body)  # noqa: S314 - from our own sandbox
        ]
        for start in range(0, len(found), _DLT_BATCH):
            yield found[start : start + _DLT_BATCH]

    return library.resource(records, name=source.resource, primary_key=source.key, write_disposition="merge")


_DLT_BATCH = 5000


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


def copy(_url: str, source: Source, server: sa.URL, schema: str, _folder: Path) -> Iterable[float]:
    """COPY of the mirror's rows, from memory into tables without index or constraint: as text, then as binary."""
    plain = server.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain, options=f"-csearch_path={schema}") as link:
        link.adapters.register_dumper(_Json, _JsonText)
        link.adapters.register_dumper(_Json, _JsonBinary)
        named = "SELECT tablename FROM pg_tables WHERE schemaname = %s AND (tablename = %s OR tablename LIKE %s)"
        parts = f"{source.table}\\_\\_%"
        tables = [row[0] for row in link.execute(named, (schema, source.table, parts))] + ["erpmirror_changes"]
        rows = {table: _fetch_rows(link, table) for table in tables}
        for how in ("", " (FORMAT binary)"):
            for table in tables:
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


def requests_so_far(url: str) -> int:
    """How many requests the vendor has received."""
    with urlopen(url + COUNT) as reply:  # noqa: S310 - our own sandbox
        return int(reply.read())


SIDES: dict[str, Callable[[str, Source, sa.URL, str, Path], Iterable[float]]] = {"ours": ours, "dlt": dlt, "copy": copy}

if __name__ == "__main__":
    side, url, source, server, schema, folder = sys.argv[1:]
    arguments = (url, Source(**json.loads(source)), sa.make_url(server), schema, Path(folder))
    measured = [(seconds, requests_so_far(url)) for seconds in SIDES[side](*arguments)]
    sys.stdout.write(json.dumps(measured) + "\n")
