"""Dilovod's read requests: typed parameters for the client, and the syntax of `erpmirror ask`."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypedDict

from models import exact
from workers.connectors.dilovod.resources import ID
from workers.errors import MisaskedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from models.values import JsonObject

_DAY = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}")
_MOMENT = re.compile(f"{_DAY.pattern}[T ][0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}}")
_END_OF_DAY = "23:59:59"


class Operator(StrEnum):
    """A filter's comparison (Dilovod help, API Dilovod, "Операції порівняння"); only catalogues have hierarchies."""

    EQUAL = "="
    NOT_EQUAL = "!="
    GREATER = ">"
    GREATER_OR_EQUAL = ">="
    LESS = "<"
    LESS_OR_EQUAL = "<="
    CONTAINS = "%"
    CONTAINS_NOT = "!%"
    IN_LIST = "IL"
    IN_HIERARCHY = "IH"
    NOT_IN_HIERARCHY = "!IH"
    IN_HIERARCHY_OF_LIST = "ILH"
    NOT_IN_HIERARCHY_OF_LIST = "!ILH"
    PARENT_IN_LIST = "IPL"


class SelectionType(StrEnum):
    """How a register is read (Dilovod help, API Dilovod, the table of "Тип вибірки")."""

    BALANCE = "balance"
    TURNOVER = "turnover"
    BALANCE_AND_TURNOVER = "balanceAndTurnover"
    SLICE_LAST = "sliceLast"


_FAMILIES = {SelectionType.SLICE_LAST: "informationRegisters"}
"""The family of a register given without one; for the other selection types it is the balance registers."""


FULL_NAME_HINT = "write a register of another family with its full name, as in accumulationRegisters.saleIncomes"
"""Added to the error if a register's short name does not exist in the default family."""


@dataclass(frozen=True, slots=True)
class Filter:
    """One condition; all of them must hold. `alias` is one of the request's `fields`.

    Public clients send lists of at most 50 values.
    """

    alias: str
    operator: Operator
    value: Any


@dataclass(frozen=True, slots=True)
class Limit:
    """A page. Dilovod heeds `offset` only together with `count`, and does not document an order."""

    offset: int
    count: int


class RequestOptions(TypedDict, total=False):
    """Optional parts of any `request`: filters, a page, texts in all languages (`<alias>__uk`, `<alias>__ru`)."""

    filters: Sequence[Filter]
    limit: Limit | None
    multilang: bool


def request_params(
    from_: str | Mapping[str, Any],
    fields: Mapping[str, str],
    *,
    filters: Sequence[Filter] = (),
    limit: Limit | None = None,
    multilang: bool = False,
    assemble_links: bool = True,
) -> JsonObject:
    """The params of a `request`. ValueError for a filter on an alias not in `fields`, which Dilovod refuses."""
    unknown = {condition.alias for condition in filters} - set(fields.values())
    if unknown:
        raise ValueError(f"filters on {', '.join(sorted(unknown))}: add these to the fields")
    params: JsonObject = {"from": from_ if isinstance(from_, str) else dict(from_), "fields": dict(fields)}
    if filters:
        params["filters"] = [
            {"alias": condition.alias, "operator": condition.operator.value, "value": condition.value}
            for condition in filters
        ]
    if limit is not None:
        params["limit"] = {"offset": limit.offset, "count": limit.count}
    if multilang:
        params["multilang"] = True
    if not assemble_links:
        params["assembleLinks"] = False
    return params


def register_source(
    selection: SelectionType,
    name: str,
    *,
    date: str | None = None,
    period: tuple[str, str] | None = None,
    dimensions: Sequence[str] = (),
) -> JsonObject:
    """A register as a `from`. `date` (None: now) and `period` are Dilovod's wall clock, the last second included.

    The help calls `dimensions` a parameter of the selection, but its samples and public clients send them in `from`.
    """
    source: JsonObject = {"type": selection.value, "register": name.rpartition(".")[2]}
    if date is not None:
        source["date"] = to_timestamp(date)
    if period is not None:
        source["startDate"], source["endDate"] = to_timestamp(period[0]), to_timestamp(period[1], _END_OF_DAY)
    if dimensions:
        source["dimensions"] = list(dimensions)
    return source


def full_name(selection: SelectionType, name: str) -> str:
    """A register's name with its family, as in the metadata: `goods` becomes `balanceRegisters.goods`."""
    return name if "." in name else f"{_FAMILIES.get(selection, 'balanceRegisters')}.{name}"


def statistic_params(
    date_from: str | None = None, date_to: str | None = None, *, partner_key: str | None = None
) -> JsonObject:
    """The params of `getStatistic`. `dateTo` is sent without the trailing blank of the help's sample."""
    params: JsonObject = {"type": "partnersIntegrations"}  # the only documented type
    if date_from is not None:
        params["dateFrom"] = to_timestamp(date_from)
    if date_to is not None:
        params["dateTo"] = to_timestamp(date_to, _END_OF_DAY)
    if partner_key is not None:
        params["partnerAPIkey"] = partner_key
    return params


def metadata_params(name: str, lang: str = "uk") -> JsonObject:
    """The params of `getMetadata`, by name or by the id in `listMetadata`."""
    return {"objectId" if ID.fullmatch(name) else "objectName": name, "lang": lang}


def to_timestamp(text: str, clock: str = "00:00:00") -> str:
    """A moment in Dilovod's form, with `clock` added to a day. ValueError for any form that it might misread."""
    if _DAY.fullmatch(text):
        return f"{text} {clock}"
    if not _MOMENT.fullmatch(text):
        raise ValueError(f"{text} is not a date; write 2026-01-31, or 2026-01-31T23:59:59 by Dilovod's wall clock")
    return text.replace("T", " ")


# The syntax of `erpmirror ask`.


@dataclass(frozen=True, slots=True)
class Query:
    """A read action and its params. `register`: whose metadata must supply the fields; None if `params` has them."""

    action: str
    params: JsonObject
    register: str | None = None


@dataclass(frozen=True, slots=True)
class _Syntax:
    """An action's arguments: positional, of which the first `required` must be given; `options` as `name=value`."""

    example: str
    positional: tuple[str, ...] = ()
    required: int = 0
    options: tuple[str, ...] = ()


_REQUEST_OPTIONS = ("filters", "limit", "offset", "multilang", "assembleLinks")
_SUMMED = ("dimensions", "fields", *_REQUEST_OPTIONS)
_PERIOD = ("register", "startDate", "endDate")
_SYNTAX = {
    "getObject": _Syntax("getObject 1100300000001001", ("id",), 1),
    "request": _Syntax("request catalogs.goods id,name limit=5", ("from", "fields"), 2, _REQUEST_OPTIONS),
    "balance": _Syntax("balance goods date=2026-01-31 dimensions=good,storage", ("register",), 1, ("date", *_SUMMED)),
    "turnover": _Syntax("turnover goods 2026-01-01 2026-01-31 dimensions=good", _PERIOD, 3, _SUMMED),
    "balanceAndTurnover": _Syntax("balanceAndTurnover goods 2026-01-01 2026-01-31", _PERIOD, 3, _SUMMED),
    "sliceLast": _Syntax(
        "sliceLast goodsPrices date=2026-01-31", ("register",), 1, ("date", "fields", *_REQUEST_OPTIONS)
    ),
    "getStatistic": _Syntax(
        "getStatistic 2026-01-01 2026-01-31 partnerAPIkey=…", ("dateFrom", "dateTo"), 0, ("type", "partnerAPIkey")
    ),
    "listMetadata": _Syntax("listMetadata uk", ("lang",)),
    "getMetadata": _Syntax("getMetadata catalogs.goods", ("objectName", "lang"), 1),
}
_ACTIONS = ("getObject", "request", "getStatistic", "listMetadata", "getMetadata")
"""Dilovod's own read actions, whose params may also be given as JSON; `ask` does not allow write actions."""

_HELP = (
    f"ask as in: {'; '.join(each.example for each in _SYNTAX.values())}; {', '.join(_ACTIONS)} also take their params "
    """as JSON: request '{"from":"catalogs.goods","fields":{"id":"id"}}'; ask only reads"""
)


def parse_query(words: Sequence[str]) -> Query:
    """The query that the words form. MisaskedError, with an example, if they are not valid."""
    action, *rest = words or [""]
    syntax = _SYNTAX.get(action)
    if syntax is None:
        raise MisaskedError(_HELP)
    try:
        if action in _ACTIONS and len(rest) == 1 and rest[0].lstrip().startswith("{"):
            return Query(action, dict(exact.loads(rest[0])))
        return _build_query(action, _parse_arguments(syntax, rest))
    except ValueError as error:
        raise MisaskedError(f"{error}; ask as in: {syntax.example}") from None


def _parse_arguments(syntax: _Syntax, words: Sequence[str]) -> dict[str, str]:
    """Argument name -> text. ValueError for a missing, surplus or unknown argument."""
    known = (*syntax.positional, *syntax.options)
    pairs = [word.partition("=") for word in words]
    unknown = [name for name, equals, _ in pairs if equals and name not in known]
    positional = [name for name, equals, _ in pairs if not equals]
    if unknown:
        raise ValueError(f"there is no {unknown[0]}=; choose from {', '.join(f'{name}=' for name in known)}")
    if len(positional) > len(syntax.positional):
        raise ValueError(f"{positional[len(syntax.positional)]} is one argument too many; remove it")
    arguments = dict(zip(syntax.positional, positional, strict=False)) | {
        name: value for name, equals, value in pairs if equals
    }
    missing = [name for name in syntax.positional[: syntax.required] if not arguments.get(name)]
    if missing:
        raise ValueError(f"add {' and '.join(missing)}")
    return arguments


def _build_query(action: str, arguments: dict[str, str]) -> Query:
    match action:
        case "getObject" | "listMetadata":
            return Query(action, dict(arguments) or {"lang": "uk"})
        case "getMetadata":
            return Query(action, metadata_params(arguments["objectName"], arguments.get("lang", "uk")))
        case "getStatistic":
            period = statistic_params(arguments.get("dateFrom"), arguments.get("dateTo"))
            return Query(action, period | _pick(arguments, "type", "partnerAPIkey"))
        case "request":
            return Query(
                action,
                {"from": arguments["from"], "fields": _fields(arguments["fields"]), **_request_options(arguments)},
            )
    return _register_query(SelectionType(action), arguments)


def _register_query(selection: SelectionType, arguments: dict[str, str]) -> Query:
    period = (arguments["startDate"], arguments["endDate"]) if "startDate" in arguments else None
    dimensions = _split_list(arguments.get("dimensions", ""))
    source = register_source(
        selection, arguments["register"], date=arguments.get("date"), period=period, dimensions=dimensions
    )
    if "fields" in arguments:
        return Query("request", {"from": source, "fields": _fields(arguments["fields"]), **_request_options(arguments)})
    return Query(
        "request", {"from": source, **_request_options(arguments)}, full_name(selection, arguments["register"])
    )


def _request_options(arguments: dict[str, str]) -> JsonObject:
    """The options in a request's form; `offset` gets a `count`, without which it has no effect (see `Limit`)."""
    options = {name: _value(name, text) for name, text in _pick(arguments, *_REQUEST_OPTIONS).items()}
    if "offset" in options:
        options["limit"] = {"offset": options.pop("offset"), "count": options.get("limit", _DEFAULT_COUNT)}
    return options


def _pick(arguments: dict[str, str], *names: str) -> dict[str, str]:
    return {name: arguments[name] for name in names if name in arguments}


_DEFAULT_COUNT = 500
_OPTION_TYPES = {
    "filters": (list, """a list, as in '[{"alias":"code","operator":"=","value":"7"}]'"""),
    "multilang": (bool, "true or false"),
    "assembleLinks": (bool, "true or false"),
    "limit": (int, "a number"),
    "offset": (int, "a number"),
}


def _value(name: str, text: str) -> Any:
    kind, wanted = _OPTION_TYPES[name]
    with suppress(ValueError):
        value = exact.loads(text)
        if type(value) is kind:
            return value
    raise ValueError(f"{name}= takes {wanted}")


def _fields(text: str) -> dict[str, str]:
    """Data path -> alias, from `id,parent.code:group`; without `:alias` the path is the alias."""
    pairs = [name.partition(":") for name in _split_list(text)]
    if not pairs:
        raise ValueError("name at least one field")
    return {path: alias or path for path, _, alias in pairs}


def _split_list(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
