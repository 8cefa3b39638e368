"""Directo's XML in the shape of its JSON: where the records of a reply are, and each as an object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from xml.etree.ElementTree import Element

    from models.values import JsonObject

_FAILURES = frozenset({"result", "results", "err", "error", "errors"})
"""Elements of errors: `<result type="5" desc="Unauthorized"/>`, `<err>token required</err>`; also roots of lists."""

_ERROR_TEXTS = frozenset({"desc", "message", "error"})
_ERROR_FIELDS = _ERROR_TEXTS | {"type", "code", "details"}

_WRAPPERS = frozenset({"body", "content", "data", "response", "result", "results", "root"})
"""Elements that hold the list and nothing else."""

_LISTS = {"row": "rows", "datafield": "datafields"}
"""An element of a part -> the part's name in JSON."""

_MOST_TOLD = 1000
"""Fields of an unreadable record that are looked at for its key."""

_LONGEST_TOLD = 1000
"""Characters. A longer value is no part of a key."""

_NIL = "nil"
_TRUE = frozenset({"1", "true"})


class Reader:
    """Finds the records while a reply is parsed: the root's children, or those of a container inside it.

    `<items><item/>…</items>`, `<results><items><item/>…</items></results>`: a container is named as the plural of its
    children, and has no attributes. Until the first record is known nothing is cleared.
    """

    def __init__(self) -> None:
        self.root: Element | None = None
        self._open: list[Element] = []
        self._depth: int | None = None
        self._found = False

    @property
    def is_no_list(self) -> bool:
        """Whether the root is an error, a page, a text or one value, and not a list, which may be empty."""
        root = self.root
        if root is None or self._found:
            return False
        if (root.text or "").strip() or is_page(root):
            return True
        if len(root):
            return not (len(root) == 1 and _is_empty_list(root[0]))
        return bool(root.attrib) if not is_failure(root) else bool(root.attrib) or root.tag.lower() != "results"

    def begin(self, element: Element) -> None:
        """An element begins."""
        _without_namespaces(element)
        if self.root is None:
            self.root = element
        self._open.append(element)
        if self._depth is None and len(self._open) > 1 and self._is_container(self._open[-2], element):
            self._depth = len(self._open) - 1

    def end(self, element: Element) -> bool:
        """An element ends; whether it is a record."""
        self._open.pop()
        depth = len(self._open)
        if self._depth is None and depth > 0 and (len(element) or element.attrib):
            self._depth = 1  # no container: the root's children are the records
        is_record = self._is_record(element) if depth == self._depth else depth == 0 and self._is_single_record(element)
        self._found = self._found or is_record
        return is_record

    def clear(self) -> None:
        """Forget the records that have ended, and what stands between them."""
        if self._open:
            self._open[-1].clear()

    def cut(self) -> list[Element]:
        """End the record that is open before its time: its open elements, itself the first; [] if none is open."""
        if self._depth is None and self._open:
            is_single = _names_an_object(self._open[0]) and all(map(_is_text, self._open[1:]))
            self._depth = 0 if is_single else 1
        cut = self._open[self._depth :] if self._depth is not None else []
        if not cut or not self._is_record(cut[0]):
            return []
        self._open = self._open[: self._depth]
        self._found = True
        return cut

    def _is_container(self, container: Element, child: Element) -> bool:
        """Whether the children of `container` are the records; `child` is its first."""
        outer = self._open[1:-2]
        are_wrappers = all(each.tag.lower() in _WRAPPERS for each in outer)
        return _is_plural(container.tag, child.tag) and not container.attrib and are_wrappers

    def _is_record(self, element: Element) -> bool:
        """Whether this is a record, and not an error that is reported in its place."""
        if self.root is None or is_page(self.root):
            return False
        return not (is_failure(self.root) and _is_error(element))

    def _is_single_record(self, root: Element) -> bool:
        """Whether the root itself is one object instead of a list: `<item><code>1</code></item>`."""
        return self._depth is None and _names_an_object(root) and len(root) > 0 and not _is_empty_list(root[0])


def is_page(root: Element) -> bool:
    """Whether it is a web page."""
    return root.tag.lower() == "html"


def _names_an_object(root: Element) -> bool:
    name = root.tag.lower()
    return name not in _FAILURES | _WRAPPERS and not name.endswith("s") and not is_page(root)


def _is_error(element: Element) -> bool:
    """Whether this, in a root such as `<results>`, is an error: `<result type="5" desc="Unauthorized"/>`."""
    names = {child.tag.lower() for child in element}
    return is_failure(element) and names <= _ERROR_FIELDS and (not names or bool(names & _ERROR_TEXTS))


def _is_empty_list(element: Element) -> bool:
    """Whether it is a container without children: `<items/>` in `<results>`."""
    is_named_so = element.tag.lower().endswith("s") and element.tag.lower() not in _LISTS.values()
    return is_named_so and not len(element) and not element.attrib and not (element.text or "").strip()


def is_failure(element: Element) -> bool:
    """Whether the element's name is that of an error."""
    return element.tag.lower() in _FAILURES


def error_words(root: Element) -> str:
    """The words of an error: those of its root, and of the elements in it that an error consists of."""
    inner = (each for each in root.iter() if each.tag.lower() in _FAILURES | _ERROR_FIELDS | {"description"})
    parts = [root, *(each for each in inner if each is not root)]
    words = (text.strip() for each in parts for text in (*each.attrib.values(), each.text or ""))
    return " ".join(filter(None, words))


def to_json(element: Element) -> Any:
    """An element in the JSON's shape: attributes and text as text, elements that wrap lists as lists, `nil` as null."""
    children = list(element)
    if _is_list(element, children):
        # A list within one more container is still the list.
        inner = children[0] if len(children) == 1 else None
        if inner is not None and not inner.attrib and len(inner) and _is_list(inner, list(inner)):
            children = list(inner)
        return [to_json(child) for child in children]
    if element.attrib.get(_NIL, "").lower() in _TRUE and not children:
        return None
    text = (element.text or "").strip()
    if not children and not element.attrib:
        return element.text or ""
    shaped = _fields(element, children)
    return shaped | {"text": text} if text and "text" not in shaped else shaped


def _fields(element: Element, children: Sequence[Element]) -> JsonObject:
    """Attributes and children by name. A name that occurs more than once becomes a list of its values."""
    shaped: JsonObject = dict(element.attrib)
    repeated: dict[str, list[Any]] = {}
    for child in children:
        name, value = child.tag, to_json(child)
        if name in repeated:
            repeated[name].append(value)
        elif name not in shaped:
            shaped[name] = value
        elif name not in element.attrib or shaped[name] != value:  # else it is an attribute and an element alike
            repeated[name] = [shaped[name], value]
    shaped |= repeated
    for one, many in _LISTS.items():
        values = repeated.get(one, [shaped.get(one)])
        if many not in shaped and all(isinstance(each, dict) for each in values):
            shaped = {many if name == one else name: values if name == one else value for name, value in shaped.items()}
    return shaped


def told(record: Element, *unfinished: Element) -> JsonObject:
    """The short texts among the record's attributes and elements, less those of an element that has no end yet."""
    texts = [*record.attrib.items(), *((each.tag, each.text or "") for each in record if _is_text(each))]
    values: dict[str, set[str]] = {}
    for name, value in texts[:_MOST_TOLD]:
        values.setdefault(name, set()).add(value)
    sure = {name: next(iter(found)) for name, found in values.items() if len(found) == 1}
    open_names = {each.tag for each in unfinished}
    return {name: value for name, value in sure.items() if name not in open_names and len(value) <= _LONGEST_TOLD}


def _is_text(element: Element) -> bool:
    return not len(element) and not element.attrib


def _is_list(element: Element, children: list[Element]) -> bool:
    if element.tag.lower() in _LISTS.values():
        return True
    tags = {child.tag for child in children}
    return len(tags) == 1 and not element.attrib and _is_plural(element.tag, next(iter(tags)))


def _is_plural(tag: str, one: str) -> bool:
    return tag.lower() in {f"{one.lower()}{end}" for end in ("s", "es")}


def _without_namespaces(element: Element) -> None:
    """Directo's names need none: `{urn:directo}item` is `item`."""
    element.tag = _local(element.tag)
    for name in [name for name in element.attrib if name.startswith("{")]:
        element.attrib[_local(name)] = element.attrib.pop(name)


def _local(name: str) -> str:
    return name.rpartition("}")[2]
