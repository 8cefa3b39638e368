"""Parses Directo's XML record by record as it arrives, so that a record beyond the limits spoils no other.

Of such a record only the beginning is kept, for its key. What is left of it is parsed, because only the parser knows
where it ends, but builds no tree.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import ParseError, TreeBuilder

from defusedxml import ElementTree as Xml

from workers.connectors import streaming
from workers.connectors.directo import xml_shape
from workers.errors import TooLargeError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from xml.etree.ElementTree import Element

_MAX_DEPTH = 100
"""Levels of elements. An element is brought into the JSON's shape by recursion."""

_LONGEST_TAG = streaming.LARGEST_RECORD * 3 // 2
"""Bytes. The parser holds a tag with its attributes, and a comment, whole."""

_MOST_SKIPPED = 256 * 2**20
"""Bytes. A larger record is taken for one without end: the rest of the reply is not waited for."""

_MOST_SKIPPED_VALUES = 4 * streaming.MOST_VALUES
"""Elements of a record that are skipped at most: each takes time, however short it is."""


class RecordParser:
    """Iterates over the records of a body: each in the JSON's shape, or an `UnreadableRecord`.

    ParseError, ValueError or LookupError for what is no XML, a DTD or an unknown encoding; TooLargeError for a record
    without end, and for what is too large and no record. A record's size is counted from the end of the one before.
    """

    def __init__(self, body: streaming.Body) -> None:
        self.reader = xml_shape.Reader()
        self._body = body
        self._builder = TreeBuilder()
        self._parser = Xml.DefusedXMLParser(target=self, forbid_dtd=True)
        self._expat = self._parser.parser
        self._ended: list[Any] = []
        self._place = 0
        self._previous_end = 0
        self._values = 0
        self._depth = 0
        self._record_depth = 0
        self._cut: streaming.UnreadableRecord | None = None

    def __iter__(self) -> Iterator[Any]:
        received = 0
        while piece := self._next_piece():
            received += len(piece)
            error = self._feed(piece)
            yield from self._take()
            if error is not None:
                raise error
            if self.reader.root is not None and xml_shape.is_page(self.reader.root):
                return
            self._check_size(received)
        self._parser.close()
        yield from self._take()

    def _next_piece(self) -> bytes:
        """`PIECE` bytes if there are as many: the parser begins an unfinished tag anew with each piece."""
        piece = bytearray()
        while len(piece) < streaming.PIECE and (more := self._body.read(streaming.PIECE - len(piece))):
            piece += more
        return bytes(piece)

    def _feed(self, piece: bytes) -> ParseError | None:
        """The error, if there is one, which comes after the records before it."""
        try:
            self._parser.feed(piece)
        except ParseError as error:
            return error
        return None

    def _take(self) -> list[Any]:
        taken, self._ended = self._ended, []
        return taken

    def _check_size(self, received: int) -> None:
        position = self._expat.CurrentByteIndex
        if self._cut is None and position - self._previous_end > streaming.LARGEST_RECORD:
            self._cut_record(_TOO_LARGE)
        if received - position > _LONGEST_TAG or received - self._previous_end > _MOST_SKIPPED:
            raise TooLargeError("a record of the answer is too large, or has no end")

    # What the parser calls.

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """A start tag."""
        self._values += 1 + len(attributes)
        if self._cut is None:
            if self._depth == _MAX_DEPTH:
                self._cut_record(f"the record is nested more than {_MAX_DEPTH} deep")
            elif self._values > streaming.MOST_VALUES:
                self._cut_record(f"the record has more than {streaming.MOST_VALUES} values")
            else:
                self.reader.begin(self._builder.start(tag, attributes))
        elif self._values > _MOST_SKIPPED_VALUES:
            raise TooLargeError(f"a record of the answer has more than {_MOST_SKIPPED_VALUES} values")
        self._depth += 1

    def data(self, text: str) -> None:
        """A part of a text."""
        if self._cut is None:
            self._builder.data(text)

    def end(self, tag: str) -> None:
        """An end tag."""
        self._depth -= 1
        if self._cut is None:
            element = self._builder.end(tag)
            if self.reader.end(element):
                is_large = self._expat.CurrentByteIndex - self._previous_end > streaming.LARGEST_RECORD
                self._end_record(self._unreadable(_TOO_LARGE, element) if is_large else xml_shape.to_json(element))
        elif self._depth == self._record_depth:
            self._end_record(self._cut)
            self._cut = None

    def _end_record(self, record: Any) -> None:
        self._ended.append(record)
        self._place += 1
        self.reader.clear()
        self._previous_end, self._values = self._expat.CurrentByteIndex, 0

    def _cut_record(self, reason: str) -> None:
        """Skip what is left of the record that is open. TooLargeError if none is."""
        elements = self.reader.cut()
        if not elements:
            raise TooLargeError(f"no record can be told from the answer: {reason.replace('record', 'element')}")
        for element in reversed(elements):
            self._builder.end(element.tag)
        self._record_depth = self._depth - len(elements)
        self._cut = self._unreadable(reason, *elements)
        elements[0].clear()

    def _unreadable(self, reason: str, record: Element, *unfinished: Element) -> streaming.UnreadableRecord:
        told = xml_shape.told(record, *unfinished[:1])
        return streaming.UnreadableRecord(self._place + 1, reason, told, _digest(record))


_TOO_LARGE = f"the record is larger than {streaming.LARGEST_RECORD / 2**20:g} MiB"


def _digest(record: Element) -> str:
    digest = hashlib.blake2b(digest_size=12)
    for element in record.iter():
        for text in (element.tag, *element.attrib.values(), element.text or ""):
            digest.update(text.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
