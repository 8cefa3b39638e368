"""What Dilovod can be asked to read, in words that a type checker knows and as `erpmirror ask` spells it."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypedDict

from models import exact
from workers.connectors.dilovod.resources import ID
from workers.errors import SetAside

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from models.values import JsonObject

_DAY = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}")
_MOMENT = re.compile(f"{_DAY.pattern}[T ][0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}}")
_END_OF_DAY = "23:59:59"


class Operator(StrEnum):
    """Comparisons of a filter (Dilovod help, API Dilovod, "Операції порівняння"); hierarchies are for catalogues."""

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
"""Where a register's bare name is looked for; what is counted is looked for among the balance registers."""


FULL_NAME_HINT = "a register of another family has its full name, as in accumulationRegisters.saleIncomes"
"""What to tell whoever asked for a register by a bare name that its family does not have."""


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
    """A page. The vendor reads `offset` only beside its `count`, and promises no order."""

    offset: int
    count: int


class RequestOptions(TypedDict, total=False):
    """What any `request` may add: filters, a page, texts in all languages (`<alias>__uk`, `<alias>__ru`)."""

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
    """A `request`'s params. ValueError for a filter on an alias that `fields` does not name: the vendor requires it."""
    unknown = {condition.alias for condition in filters} - set(fields.values())
    if unknown:
        raise ValueError(f"filters on {', '.join(sorted(unknown))}, which the fields do not name")
    made: JsonObject = {"from": from_ if isinstance(from_, str) else dict(from_), "fields": dict(fields)}
    if filters:
        made["filters"] = [
            {"alias": condition.alias, "operator": condition.operator.value, "value": condition.value}
            for condition in filters
        ]
    if limit is not None:
        made["limit"] = {"offset": limit.offset, "count": limit.count}
    if multilang:
        made["multilang"] = True
    if not assemble_links:
        made["assembleLinks"] = False
    return made


def register_source(
    selection: SelectionType,
    name: str,
    *,
    date: str | None = None,
    period: tuple[str, str] | None = None,
    dimensions: Sequence[str] = (),
) -> JsonObject:
    """A register as a `from`. `date` (now, if None) and `period` are the vendor's wall clock, its last second included.

    The help calls `dimensions` a parameter of the selection; its samples, and who uses it, write them inside `from`.
    """
    made: JsonObject = {"type": selection.value, "register": name.rpartition(".")[2]}
    if date is not None:
        made["date"] = to_timestamp(date)
    if period is not None:
        made["startDate"], made["endDate"] = to_timestamp(period[0]), to_timestamp(period[1], _END_OF_DAY)
    if dimensions:
        made["dimensions"] = list(dimensions)
    return made


def full_name(selection: SelectionType, name: str) -> str:
    """A register's name as the metadata knows it: `goods` is `balanceRegisters.goods`."""
    return name if "." in name else f"{_FAMILIES.get(selection, 'balanceRegisters')}.{name}"


def statistic_params(
    date_from: str | None = None, date_to: str | None = None, *, partner_key: str | None = None
) -> JsonObject:
    """The params of `getStatistic`. The sample writes `"dateTo "` with a blank, its table without: without."""
    made: JsonObject = {"type": "partnersIntegrations"}  # the only one that is documented
    if date_from is not None:
        made["dateFrom"] = to_timestamp(date_from)
    if date_to is not None:
        made["dateTo"] = to_timestamp(date_to, _END_OF_DAY)
    if partner_key is not None:
        made["partnerAPIkey"] = partner_key
    return made


def metadata_params(name: str, lang: str = "uk") -> JsonObject:
    """The params of `getMetadata`: by name, or by the id that `listMetadata` shows."""
    return {"objectId" if ID.fullmatch(name) else "objectName": name, "lang": lang}


def to_timestamp(text: str, clock: str = "00:00:00") -> str:
    """A moment as the vendor writes it; a bare day at this time. ValueError for what he might read as another one."""
    if _DAY.fullmatch(text):
        return f"{text} {clock}"
    if not _MOMENT.fullmatch(text):
        raise ValueError(f"{text} is no moment; write 2026-01-31, or 2026-01-31T23:59:59 by the vendor's wall clock")
    return text.replace("T", " ")


# What a person asks.


@dataclass(frozen=True, slots=True)
class Query:
    """A reading action and its params. `register`: whose metadata is still to say the fields."""

    action: str
    params: JsonObject
    register: str | None = None


@dataclass(frozen=True, slots=True)
class _Syntax:
    """How an action is spelt: words in their order, of which the first `needed` must be there; then `name=value`."""

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
    "sliceLast": _Syntax("sliceLast goodsPrices date=2026-01-31", ("register",), 1, ("date", "fields", *_REQUEST_OPTIONS)),
    "getStatistic": _Syntax(
        "getStatistic 2026-01-01 2026-01-31 partnerAPIkey=…", ("dateFrom", "dateTo"), 0, ("type", "partnerAPIkey")
    ),
    "listMetadata": _Syntax("listMetadata uk", ("lang",)),
    "getMetadata": _Syntax("getMetadata catalogs.goods", ("objectName", "lang"), 1),
}
_ACTIONS = ("getObject", "request", "getStatistic", "listMetadata", "getMetadata")
"""The vendor's own reading actions, which also take their params as JSON; the writing ones are not for a mirror."""

_HELP = (
    f"ask as in: {'; '.join(form.example for form in _SYNTAX.values())}; {', '.join(_ACTIONS)} also take their params "
    """as JSON: request '{"from":"catalogs.goods","fields":{"id":"id"}}'; only reading is allowed"""
)


def parse_query(words: Sequence[str]) -> Query:
    """What the words ask for. SetAside says how to ask, with an example."""
    action, *rest = words or [""]
    syntax = _SYNTAX.get(action)
    if syntax is None:
        raise SetAside(_HELP)
    try:
        if action in _ACTIONS and len(rest) == 1 and rest[0].lstrip().startswith("{"):
            return Query(action, dict(exact.loads(rest[0])))
        return _build_query(action, _parse_arguments(syntax, rest))
    except ValueError as error:
        raise SetAside(f"{error}; ask as in: {syntax.example}") from None


def _parse_arguments(syntax: _Syntax, words: Sequence[str]) -> dict[str, str]:
    """The words by what they say. ValueError for one too many, too few, or one that nobody knows."""
    known = (*syntax.positional, *syntax.options)
    pairs = [word.partition("=") for word in words]
    unknown = [name for name, equals, _ in pairs if equals and name not in known]
    positional = [name for name, equals, _ in pairs if not equals]
    if unknown:
        raise ValueError(f"there is no {unknown[0]}=, but {', '.join(f'{name}=' for name in known)}")
    if len(positional) > len(syntax.positional):
        raise ValueError("that is a word too many")
    arguments = dict(zip(syntax.positional, positional, strict=False)) | {name: value for name, equals, value in pairs if equals}
    missing = [name for name in syntax.positional[: syntax.required] if not arguments.get(name)]
    if missing:
        raise ValueError(f"{' and '.join(missing)} missing")
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
            return Query(action, {"from": arguments["from"], "fields": _fields(arguments["fields"]), **_request_options(arguments)})
    return _register_query(SelectionType(action), arguments)


def _register_query(selection: SelectionType, arguments: dict[str, str]) -> Query:
    period = (arguments["startDate"], arguments["endDate"]) if "startDate" in arguments else None
    dimensions = _split_list(arguments.get("dimensions", ""))
    source = register_source(selection, arguments["register"], date=arguments.get("date"), period=period, dimensions=dimensions)
    if "fields" in arguments:
        return Query("request", {"from": source, "fields": _fields(arguments["fields"]), **_request_options(arguments)})
    return Query("request", {"from": source, **_request_options(arguments)}, full_name(selection, arguments["register"]))


def _request_options(arguments: dict[str, str]) -> JsonObject:
    """`offset` only works beside its `count` (see `Limit`)."""
    made = {name: _value(name, text) for name, text in _pick(arguments, *_REQUEST_OPTIONS).items()}
    if "offset" in made:
        made["limit"] = {"offset": made.pop("offset"), "count": made.get("limit", _DEFAULT_COUNT)}
    return made


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
    """`id,parent.code:group` names what a row is to have, `path:alias` where it is to be called otherwise."""
    pairs = [name.partition(":") for name in _split_list(text)]
    if not pairs:
        raise ValueError("no field is named")
    return {path: alias or path for path, _, alias in pairs}


def _split_list(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
