"""The name of an uploaded file, in every form that programs give it."""

from __future__ import annotations

import pytest
from python_multipart.multipart import parse_options_header

from receiver.http import file_names

NOTE = "följesedel.pdf"


@pytest.mark.parametrize(
    ("expected", "parameters"),
    [
        ("a.pdf", 'filename="a.pdf"'),
        ("a.pdf", "filename=a.pdf"),
        (NOTE, f'filename="{NOTE}"'),
        (NOTE, "filename*=utf-8''f%C3%B6ljesedel.pdf"),
        (NOTE, "filename*=\"UTF-8'sv'f%C3%B6ljesedel.pdf\""),
        (NOTE, "filename*=iso-8859-1''f%F6ljesedel.pdf"),
        (NOTE, "filename=\"x.pdf\"; filename*=utf-8''f%C3%B6ljesedel.pdf"),
        (NOTE, "filename*=utf-8''f%C3%B6ljesedel.pdf; filename=\"x.pdf\""),
        (NOTE, "FileName*=utf-8''f%C3%B6ljesedel.pdf"),
        (NOTE, 'filename="=?utf-8?B?ZsO2bGplc2VkZWwucGRm?="'),
        (NOTE, 'filename="=?iso-8859-1?Q?f=F6ljesedel.pdf?="'),
        (NOTE, 'filename="f%C3%B6ljesedel.pdf"'),
        ('a"b.pdf', 'filename="a%22b.pdf"'),
        ('a"b.pdf', 'filename="a\\"b.pdf"'),
        ("x.pdf", 'filename="C:\\fakepath\\x.pdf"'),
        ("x.pdf", 'filename="../../x.pdf"'),
        ("x.pdf", "filename*=utf-8''%2e%2e%2Fx.pdf"),
        ("x.pdf", 'filename="%2e%2e%5cx.pdf"'),
        ("ab.pdf", 'filename="a%00%0Ab.pdf"'),
        ("fdp.exe", "filename*=utf-8''%E2%80%AEfdp.exe"),
        # Neither encoding is well-formed: the name stays as it is.
        ("100%.pdf", 'filename="100%.pdf"'),
        ("a%F6.pdf", 'filename="a%F6.pdf"'),
        ("=_klingon_Q_x_=", 'filename="=_klingon_Q_x_="'),
        ("=?klingon?Q?x?=", 'filename="=?klingon?Q?x?="'),
        ("x.pdf", "filename=\"x.pdf\"; filename*=utf-8''%F6"),
        ("x.pdf", "filename=\"x.pdf\"; filename*=klingon''x"),
        ("", 'filename=""'),
        ("", 'filename=".."'),
        (None, "filename*=utf-8''%F6"),
        (None, "title=\"x; filename*=utf-8''y.pdf\""),
    ],
)
def test_a_name_is_what_the_sender_meant(expected: str | None, parameters: str) -> None:
    value = f'form-data; name="file"; {parameters}'.encode()
    assert expected == file_names.from_disposition(value, parse_options_header(value)[1])
