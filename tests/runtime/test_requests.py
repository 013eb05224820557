"""Requests come in as people have them; a line that cannot be used is named."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.errors import DataError
from compress.runtime.fields import Fields
from compress.runtime.predictor import Request
from compress.runtime.requests import read_requests


def read(text: str | bytes, **fields: Any) -> list[Request]:
    content = text.encode() if isinstance(text, str) else text
    return list(read_requests(io.BytesIO(content), fields=Fields(**fields)))


def test_json_lines() -> None:
    assert read('{"text": "a", "id": 7, "price": 3}\n\n{"text": "b", "text_pair": "c", "id": "x"}\n') == [
        Request("a", None, "7"),
        Request("b", "c", "x"),
    ]


def test_csv_with_a_quoted_line_break() -> None:
    assert read('id,text\r\n1,"a ""big"" one,\r\nin two lines"\r\n2,b\r\n') == [
        Request('a "big" one,\r\nin two lines', None, "1"),
        Request("b", None, "2"),
    ]


def test_tab_separated_quotes_are_characters() -> None:
    assert read('text\ttext_pair\n"Shoe 5"\tpipe 1/2"\n') == [Request('"Shoe 5"', 'pipe 1/2"')]


def test_a_byte_order_mark_is_not_part_of_the_first_column() -> None:
    assert read(b"\xef\xbb\xbftext\nred\n") == [Request("red")]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", '{"text": "red"}\n'),
        ("a.csv", "text\nred"),
        ("a.tsv", "text\nred\n"),
        ("a.txt", '{"text": "red"}'),
    ],
)
def test_the_format_is_told_by_the_ending_or_the_first_line(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    assert list(read_requests(tmp_path / name)) == [Request("red")]


def test_columns_named_otherwise() -> None:
    columns = {"text": "query", "text_pair": "title", "id": "sku"}
    assert read("sku,query,title\n9,red shoe,Shoe in red\n", named=columns, pairs=True) == [
        Request("red shoe", "Shoe in red", "9")
    ]


JOINED = {"text": ("title", "brand", "price")}


def test_columns_are_joined_as_in_training() -> None:
    """Empty cells leave no gap, numbers read as in a table."""
    csv = "sku,title,brand,price\n1, red shoe ,Acme,9.5\n2,kettle,,\n"
    assert read(csv, joined=JOINED, named={"id": "sku"}) == [
        Request("red shoe Acme 9.5", None, "1"),
        Request("kettle", None, "2"),
    ]
    line = '{"price": 12.0, "brand": null, "title": "kettle"}'
    assert read(line, joined=JOINED) == [Request("kettle 12")]
    pair = {"text": ("query",), "text_pair": ("title", "brand")}
    assert read("query,title,brand\nshoes,red shoe,Acme\n", joined=pair, pairs=True) == [
        Request("shoes", "red shoe Acme")
    ]


def test_a_whole_text_or_a_named_column_is_taken_as_it_is() -> None:
    assert read('{"text": "red shoe Acme 9"}', joined=JOINED) == [Request("red shoe Acme 9")]
    assert read("title,brand,price,name\na,b,c,red\n", joined=JOINED, named={"text": "name"}) == [Request("red")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("title,price\na,1\n", r"stdin:2 has no 'brand' \(for text, made of 'title' and 'brand' and 'price'"),
        ("name\na\n", r"no 'title' .*there are: 'name'; add it, .*under 'text'; or name one with --text"),
        ("title,brand,price\n, ,\n", "stdin:2 has an empty 'title' and 'brand' and 'price'"),
        ('{"title": ["a"], "brand": "b", "price": 1}', "stdin:1 has a list under 'title'"),
        ('{"title": "\\ud83d", "brand": "b", "price": 1}', "stdin:1 has half a character .* in 'title'"),
    ],
)
def test_a_column_that_training_had_and_a_row_has_not(content: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(content, joined=JOINED)


def test_a_part_named_text_is_not_the_whole_text() -> None:
    with pytest.raises(DataError, match=r"no 'brand'"):
        read('{"text": "red shoe"}', joined={"text": ("text", "brand")})


def test_a_stream_is_answered_line_by_line() -> None:
    requests = read_requests(io.BytesIO(b'{"text": "a"}\nbroken\n'))
    assert next(requests) == Request("a")
    with pytest.raises(DataError, match="stdin:2"):
        next(requests)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "stdin is empty"),
        ("\n\n", "stdin is empty"),
        ("text\n", "no request below"),
        ('{"text": "a"}\n{"text": \n', "stdin:2 is not JSON"),
        ('{"text": "a"}\n["b"]\n', "stdin:2 .*an object"),
        ('{"text": "a"}\n{"txt": "b"}\n', "stdin:2 has no 'text'.*there are: 'txt'"),
        ('{"text": " "}\n', "stdin:1 has an empty 'text'"),
        ('{"text": null}\n', "stdin:1 has None under 'text'"),
        ('{"text": 3.5}\n', "stdin:1 has 3.5 under 'text'"),
        ('{"text": "a", "id": true}\n', "stdin:1 has True under 'id'"),
        ('{"text": "\\ud83d"}\n', "stdin:1 has half a character"),
        ('{"id": "\\ud83d", "text": "a"}\n', "stdin:1 has half a character .* in 'id' at 0"),
        ("title,price\na,1\n", "stdin:2 has no 'text'.*there are: 'title', 'price'.*--text"),
        ("text,id\na,1\n\nb\n", "stdin:4 has 1 fields, the header has 2"),
        ("text,text\na,b\n", "column 'text' twice"),
        ('text,id\n"a,1\n', "stdin:2 is not CSV"),
        (b"text\ngood\nb\xe4d\n", "stdin:3 is not UTF-8: byte 0xe4"),
        ("[" * 100_000 + "\n", "stdin:1 is not JSON"),
        ('[{"text": "a"}]\n', "stdin:1 .*an object"),
        ('{"text": ' + "[" * 100_000 + "\n", "stdin:1 is not JSON"),
    ],
)
def test_bad_input_is_named_with_its_line(content: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(content)


def test_pairs_need_the_second_column() -> None:
    with pytest.raises(DataError, match=r"no 'text_pair'.*there are: 'text', 'id'.*--text-pair"):
        read("text,id\na,1\n", pairs=True)
    with pytest.raises(DataError, match="stdin:1 has an empty 'text_pair'"):
        read('{"text": "a", "text_pair": ""}', pairs=True)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no\.csv"):
        list(read_requests(tmp_path / "no.csv"))


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip), min_size=1))
def test_any_text_survives_json_lines(texts: list[str]) -> None:
    content = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)
    assert [request.text for request in read(content)] == [text.strip() for text in texts]


PIECES = st.sampled_from([b'{"text": "a"}\n', b'{"text": " "}\n', b'{"text": 1}\n', b"text\n", b"\n", b'"', b"\xff"])


@given(st.binary(max_size=200) | st.lists(PIECES, max_size=8).map(b"".join))
def test_any_bytes_are_requests_or_a_data_error(content: bytes) -> None:
    try:
        requests = read(content)
    except DataError:
        return
    assert all(request.text.strip() for request in requests)
