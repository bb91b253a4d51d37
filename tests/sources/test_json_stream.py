import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reasonray.core.errors import UserError
from reasonray.sources import json_stream
from reasonray.sources.json_stream import stream_array

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=12,
)


@settings(deadline=None, max_examples=50)
@given(
    content=st.dictionaries(st.text(max_size=4), values, max_size=4),
    elements=st.lists(values, max_size=6),
    chunk=st.integers(1, 40),
    indent=st.none() | st.integers(0, 2),
    ascii_only=st.booleans(),
)
def test_it_yields_what_a_whole_parse_yields(
    content: dict[str, object],
    elements: list[object],
    chunk: int,
    indent: int | None,
    ascii_only: bool,
) -> None:
    content = {**content, "images": elements, "after": 1}
    text = json.dumps(content, indent=indent, ensure_ascii=ascii_only)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "_CHUNK", chunk)
        assert list(stream_array(io.StringIO(text), "images", "f")) == elements


@pytest.mark.parametrize("text", ["{}", '{"a": [1, 2]}', '{"a": "x", "b": 1.5}'])
def test_an_absent_key_is_an_empty_array(text: str) -> None:
    assert list(stream_array(io.StringIO(text), "images", "f")) == []


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", 0),
        ("nope", 0),
        ('{"a": 1', 7),
        ('{"a": "open', 6),
        ('{"images": {}}', 11),
        ('{"images": [1 2]}', 14),
        ('{"images": [1, tru]}', 15),
        ('{"images" [1]}', 10),
        ("{1: [1]}", 2),
    ],
)
def test_a_mistake_is_named_with_its_place(text: str, place: int) -> None:
    with pytest.raises(UserError, match=f"f: character {place}: "):
        list(stream_array(io.StringIO(text), "images", "f"))


def test_a_malformed_element_does_not_read_the_rest_of_a_large_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(json_stream, "_CHUNK", 10)
    monkeypatch.setattr(json_stream, "_LONGEST", 100)
    file = io.StringIO('{"images": [{"id": oops}, ' + "1, " * 10_000)
    with pytest.raises(UserError, match="character 12"):
        list(stream_array(file, "images", "f"))
    assert file.tell() < 200
