"""The connector of a sixth system: the files that a test writes into a folder beside ours, by module name."""

from __future__ import annotations

FILES = {
    "__init__": '"""The sixth system."""\n',
    "options": """
from datetime import datetime
from workers.connectors.contract import Connection, Secret, Url

class Options(Connection):
    url: Url
    api_key: Secret
    kinds: str
    opens_at: datetime | None = None

    def login(self):
        return (self.api_key.get_secret_value(),)

    def closed_until(self, now):
        return self.opens_at if self.opens_at is not None and now < self.opens_at else None
""",
    "resources": """
import json
import re
from datetime import timedelta
from workers.connectors.contract import Resource

def resources(options):
    return tuple(Resource(name, **_arguments(kind)) for name, kind in json.loads(options.kinds).items())

def _arguments(kind):
    full_every = timedelta(seconds=kind.get("full_every", 86400))
    every = timedelta(seconds=kind["every"]) if "every" in kind else None
    unsayable = kind.pop("unsayable", None)
    can_fetch_key = None if unsayable is None else lambda key: not re.search(unsayable, key)
    return kind | {"full_every": full_every, "every": every, "bound": full_every, "can_fetch_key": can_fetch_key}
""",
    "client": """
from datetime import datetime
from models.values import Chunk, End, Line, ObjectRef, UndecodedSnapshot, Snapshot, Tombstone, Unreadable, Withheld
from workers.connectors.contract import CheckResult
from workers.connectors.http import Http
from workers.errors import BusyError, ClosedError, NotForUs, SetAside

class Killed(BaseException):
    pass

class Client:
    def __init__(self, options, runtime):
        key = options.api_key.get_secret_value()
        self._http = Http(
            runtime, base_url=options.url, timeout=options.timeout, route=options.route, headers={"X-Key": key}
        )

    def close(self):
        self._http.close()

    def fetch(self, resource, key):
        reply = self._asked(f"/{resource.name}/{key}")
        if reply.status == 404:
            return Tombstone(key)
        if reply.status == 406:
            return Withheld(key, {"withheld": True})
        found = reply.json()
        if "crash" in found["raw"]:
            raise RuntimeError("a mistake of ours")
        return Snapshot(key, found["raw"], listed=found.get("listed"))

    def list(self, resource, cursor):
        for chunk in self._asked(f"/{resource.name}", cursor=cursor).json():
            if chunk.get("fail") == "kill":
                raise Killed
            if chunk.get("fail") == "crash":
                raise RuntimeError("a mistake of ours")
            if chunk.get("fail"):
                raise TypeError(chunk["fail"])
            end = chunk.get("end")
            received = [UndecodedSnapshot(key, sent.encode()) for key, sent in chunk.get("received", {}).items()]
            yield Chunk(
                snapshots=received or [Snapshot(key, raw) for key, raw in chunk.get("snapshots", {}).items()],
                lines=[Line(*line) for line in chunk.get("lines", ())],
                refs=[ObjectRef(*ref) for ref in chunk.get("refs", ())],
                unreadable=[Unreadable(*row) for row in chunk.get("unreadable", ())],
                end=None if end is None else End(**end),
            )

    def shape(self, resource):
        return self._asked(f"/{resource.name}/metadata").json()

    def check(self):
        reply = self._asked("/check")
        return CheckResult(str(reply.json()), reply.date)

    def probe(self, resource):
        return str(self._asked("/check").json())

    def ask(self, words):
        return self._asked("/" + "/".join(words)).json()

    def _asked(self, path, cursor=None):
        reply = self._http.read("GET", path, params={} if cursor is None else {"cursor": cursor})
        text = reply.body.decode()
        match reply.status:
            case 400:
                raise SetAside(text)
            case 403:
                raise SetAside(text, whole_resource=True)
            case 409:
                raise BusyError(text)
            case 410:
                raise NotForUs(text)
            case 423:
                raise ClosedError("closed", until=datetime.fromisoformat(text))
        return reply
""",
}
