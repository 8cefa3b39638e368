"""The writes that Wisedat takes, as data: `create`, `update` and `delete` of eleven resources."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from models.values import ObjectRef
from workers.connectors import objects
from workers.connectors.commands import Action
from workers.connectors.wisedat import command_fields, command_rules, command_shown, command_table
from workers.connectors.wisedat.command_examples import EXAMPLES
from workers.connectors.wisedat.command_table import ADDRESSES, CHOOSES_ITS_ID, CREATE, DELETE, SECTIONS, UPDATE, VERBS

if TYPE_CHECKING:
    from models.values import JsonObject
    from workers.connectors.wisedat.options import Options

_TITLES = {CREATE: "Create a", UPDATE: "Change a", DELETE: "Delete a"}
_SECTION_NAMES = {ADDRESSES: "Customer Addresses"}
_VERB_NAMES = {CREATE: "Post", UPDATE: "Put", DELETE: "Delete"}
_CANCELS = "; a closed one is canceled instead"


def actions(options: Options) -> tuple[Action, ...]:
    """Every write of the vendor's document, whichever of them the connection allows."""
    return tuple(_action(verb, resource, options) for resource in SECTIONS for verb in VERBS)


def _action(verb: str, resource: str, options: Options) -> Action:
    section = SECTIONS[resource]
    article = f"{_TITLES[verb]}n" if section.title[0] in "aeio" else _TITLES[verb]
    expected, shown = command_shown.comparison(verb, resource)
    creates = resource if verb == CREATE and resource != ADDRESSES else None
    has_new_id = creates is not None and creates not in CHOOSES_ITS_ID  # the vendor chooses it
    return Action(
        name=verb,
        resource=resource,
        title=f"{article} {section.title}" + (_CANCELS if (verb, resource) == (DELETE, "orders") else ""),
        schema=command_fields.schema(verb, resource),
        example=EXAMPLES[verb, resource],
        source=f"Wisedat API 1.3, {_SECTION_NAMES.get(resource, resource.title())}, {_VERB_NAMES[verb]}",
        rules=command_rules.rules(verb, resource),
        check=partial(command_rules.check, verb, resource),
        subject=_nothing if has_new_id else partial(subject, resource, is_keyed=resource not in options.keys),
        creates=lambda _: creates,
        unique={resource: section.unique} if creates and section.unique else {},
        expected=expected,
        shown=shown,
    )


def _nothing(_: JsonObject) -> None:
    """The subject of a creation whose id the vendor chooses."""


def subject(resource: str, arguments: JsonObject, *, is_keyed: bool = True) -> ObjectRef:
    """The object, with its key as the mirror has it; an address is a part of its customer.

    `is_keyed`: the mirror identifies the resource's objects by their id. Else the key is empty, because the id does not
    tell it (`keys` in the settings).
    """
    if resource == ADDRESSES:
        return ObjectRef("customers", id_text("customers", arguments["customer"]))
    return ObjectRef(resource, id_text(resource, arguments["id"]) if is_keyed else "")


def id_text(resource: str, id_: object) -> str:
    """The id as the mirror's key: a number's normal form, or the text as it is."""
    return objects.key_text(id_, is_number=not command_table.SECTIONS[resource].text_id)
