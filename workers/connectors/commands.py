"""The contract of writes: what a connector's `commands.py` declares, and what its client does with one command.

A folder offers commands by one file more, `commands.py`, with

- `actions(options) -> tuple[Action, ...]`: every write of the vendor's API as data
- in its `options.py`: class `Options(TakesCommands, …)`
- in its `client.py`: a `Client` that is a `CommandClient` too

The core validates the arguments by `Action.violations`, stores the command, and then, under a lease of the account:

- `CommandClient.also_changes`, if the action `may_change_others`: what else changes; it may be asked again
- `CommandClient.send`: the one request that writes. The state `sending` is committed before it
- `CommandClient.read_back` or `CommandClient.find`, if it is not known whether the write arrived

`CommandClient.preview` is for `erpmirror command --dry-run`, which opens no lease.

An update is compared by two functions of its action. `expected(arguments)` says what the vendor shows once it has
arrived; `shown(arguments, found)` takes the same places from an object that was read. All equal: it arrived. The whole
object as before it was sent, at two reads some time apart: it did not arrive, and is sent again. Anything else: a
person decides. A creation is found by its `unique` field, or by a person.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from models.values import JsonObject, ObjectRef

TOKEN_LENGTH = 18
"""Characters of the token that erpmirror puts into a unique field: `EM` and base 32 of a hash of the command."""


def with_value_at(arguments: JsonObject, path: Sequence[str], value: object) -> JsonObject:
    """A copy of the arguments with a value at a place."""
    name, *rest = path
    below = arguments.get(name)
    deeper = with_value_at(below if isinstance(below, dict) else {}, rest, value) if rest else value
    return {**arguments, name: deeper}


def value_at(arguments: JsonObject, path: Sequence[str]) -> object:
    """The value at a place in the arguments; None if they have no such place."""
    value: object = arguments
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


class GoneType:
    """The type of `GONE`."""

    def __repr__(self) -> str:
        return "GONE"


GONE = GoneType()
"""What is expected after a deletion: the object does not exist, or is marked as deleted."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One mistake in a command's arguments. `path`: dotted, list items by their number, as in `goods.0.qty`."""

    path: str
    message: str


@dataclass(frozen=True, slots=True)
class Unique:
    """A field of a new object by which it is found again, for `unique` in the settings.

    - `path`: where it is in the arguments, as in `("header", "remark")`
    - `appends`: it is free text, so the token is added behind what it holds. Else it identifies the object by its own
      value, and only an absent one is filled with the token
    - `longest`: characters that the vendor takes
    """

    path: tuple[str, ...]
    appends: bool = False
    longest: int = 255


@dataclass(frozen=True, slots=True)
class Action:
    """One kind of write, under the vendor's own name.

    What it takes:

    - `name`: the action, as in `saveObject`
    - `resource`: the resource that a command names beside the action (Wisedat's `products`); None where the arguments
      say what is written (Dilovod)
    - `title`: what it does, in a few words
    - `schema`: JSON Schema (draft 2020-12) of the arguments, an object; descriptions give units and enumerations
    - `rules`: the document's rules that a schema cannot say, one sentence each; `check` enforces them
    - `check`: arguments that fit the schema -> what breaks the rules
    - `example`: arguments that it accepts, as in the vendor's document
    - `source`: where the vendor documents it

    What it writes:

    - `subject`: arguments -> the object; None for one that is created and whose key the vendor chooses. Commands of one
      object are sent in their order. A resource whose objects have no keys (a register) is an `ObjectRef` with an empty
      key
    - `creates`: arguments -> the resource of which an object is created; None for an update or a deletion
    - `unique`: by resource, which fields of a new object may find it again
    - `needs_proof`: whether the vendor is known to answer ok to such arguments and to ignore them: then the object is
      read back after its ok
    - `may_change_others`: whether `also_changes` has to be asked before it is sent

    How it is known to have arrived, for other commands than creations. None: only a person can know.

    - `expected`: arguments -> what the vendor shows then at the places that it compares, or `GONE`
    - `shown`: arguments and the object as read -> the same places. Both in one normal form, whatever the vendor makes
      of a value: numbers as text, links as objects, trimmed texts
    """

    name: str
    title: str
    schema: JsonObject
    example: JsonObject
    subject: Callable[[JsonObject], ObjectRef | None]
    source: str
    resource: str | None = None
    rules: Sequence[str] = ()
    check: Callable[[JsonObject], Sequence[Violation]] = lambda _: ()
    creates: Callable[[JsonObject], str | None] = lambda _: None
    unique: Mapping[str, Mapping[str, Unique]] = field(default_factory=dict)
    may_change_others: bool = False
    needs_proof: Callable[[JsonObject], bool] = lambda _: False
    expected: Callable[[JsonObject], JsonObject | GoneType] | None = None
    shown: Callable[[JsonObject, JsonObject], JsonObject] | None = None

    @property
    def full_name(self) -> str:
        """The name in the settings' `commands`, where `NAME` alone allows it for all resources."""
        return self.name if self.resource is None else f"{self.name}:{self.resource}"


@dataclass(frozen=True, slots=True)
class Sent:
    """The vendor's word that a write was done.

    `answer`: as decoded, for the record. `ref`: the object that was written, with the key that the answer names; None
    if there is nothing to fetch.
    """

    answer: object
    ref: ObjectRef | None


class CommandClient(Protocol):
    """What a client has in addition to `contract.Client`, at a vendor that takes writes. Called under a lease."""

    def send(self, action: Action, arguments: JsonObject) -> Sent:
        """Make the one request that writes.

        - `errors.RefusedError`: the vendor says no, in its words; nothing was written
        - `errors.TryLater` with `refused`: it certainly was not taken (busy, locked, no connection); it is sent again.
          Where `closes_gate` is false it concerns this object alone, so it is refused after some minutes of attempts
        - any other error: it may have arrived, and is read back
        """

    def preview(self, action: Action, arguments: JsonObject) -> JsonObject:
        """The request that `send` would make, without secrets, for a person: `Http.preview`. Nothing is sent."""

    def read_back(self, action: Action, arguments: JsonObject) -> JsonObject | GoneType:
        """Read the object that the command writes as it is now; `GONE` if it does not exist or is marked as deleted.

        The form is that of `fetch`'s `Snapshot.raw`, because the mirror's row from before is compared with it.
        """

    def find(self, action: Action, arguments: JsonObject, path: tuple[str, ...]) -> Sequence[str]:
        """The keys of the objects whose unique field has what the arguments hold at `path`."""

    def also_changes(self, action: Action, arguments: JsonObject) -> Sequence[ObjectRef]:
        """Which other objects the command will change, as the children of a folder. Reads only."""


class Arrival(Protocol):
    """A write that arrived at a sandbox. `executed`: it was done."""

    executed: bool


class CommandSandbox(Protocol):
    """What a sandbox has in addition to `contract.Sandbox`, at a vendor that takes writes.

    - `write_faults`: what becomes of the next writes, one each: members of `WriteFault` in `sandbox_writes.py`
    - `write_seconds`: how long a slow write takes
    - `writes`: all that arrived, in their order
    """

    write_faults: deque[Any]
    write_seconds: float
    writes: Sequence[Arrival]
