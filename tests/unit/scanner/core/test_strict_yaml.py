"""What the YAML reader refuses, and the line it names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanner.core.errors import BadInput
from scanner.core.strict_yaml import MAX_BYTES, read_yaml


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"a: 1\nb: 2\na: 3\n", "f.yaml, line 3: the key 'a' stands twice"),
        (b"a: &x [1]\nb: *x\n", "f.yaml, line 1: anchors and aliases are not taken"),
        (b"a: 1\nb: 2026-13-45\n", "f.yaml, line 2: a value that is no valid date"),
        (b"a: [1\n", "not YAML"),
        (b"a: 1\n---\nb: 2\n", "not YAML"),
        (b"? [a]\n: b\n", "f.yaml, line 1: a key must be a plain word"),
        (b"a: !!python/object/apply:os.system [ls]\n", "f.yaml"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"[" * 40 + b"]" * 40, "nested deeper than 20"),
        (b"#" * (MAX_BYTES + 1), "at most 1,000,000"),
        (b"a: \x00\n", "not YAML"),
    ],
)
def test_refuses_in_one_line(text: bytes, said: str) -> None:
    with pytest.raises(BadInput) as raised:
        read_yaml(text, "f.yaml")
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_yaml_bomb_is_refused_before_it_expands() -> None:
    bomb = b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
        b"%c: &%c [%s]\n" % (name, name, b",".join([b"*%c" % (name - 1)] * 9)) for name in range(98, 107)
    )
    with pytest.raises(BadInput, match="aliases"):
        read_yaml(bomb, "f.yaml")


def test_knows_the_line_of_each_key() -> None:
    document = read_yaml(b"a:\n  b: 1\n  c:\n    - x\n    - y\n", "f.yaml")
    assert document.data == {"a": {"b": 1, "c": ["x", "y"]}}
    assert document.where(("a", "c", 1)) == "f.yaml, line 5"
    assert document.where(("a", "gone")) == "f.yaml, line 1"


@given(st.binary(max_size=200))
def test_any_bytes_end_in_a_document_or_one_line(text: bytes) -> None:
    try:
        read_yaml(text, "f.yaml")
    except BadInput as error:
        assert "\n" not in str(error)
