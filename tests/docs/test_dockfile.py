"""docs/dockfile.md is held against the table of keys: every key with its default and its text, in order, and no other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect

from holdfast.dockfile import keys
from holdfast.dockfile.checking import type_of

PAGE = Path(__file__).parents[2] / "docs" / "dockfile.md"


def _bare(kind: inspect.Type) -> inspect.Type:
    if isinstance(kind, inspect.Metadata):
        return _bare(kind.type)
    if isinstance(kind, inspect.UnionType):
        return _bare(next(item for item in kind.types if not isinstance(item, inspect.NoneType)))
    return kind


def _default(field: inspect.Field) -> str:
    if field.required:
        return "required"
    value: Any = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    if value in (None, (), {}):
        return "none"
    if isinstance(value, tuple):
        return f"`[{', '.join(value)}]`"
    return f"`{str(value).lower()}`" if isinstance(value, bool) else f"`{value}`"


def _rows(kind: inspect.Type, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    kind = _bare(kind)
    if isinstance(kind, inspect.VarTupleType):
        yield from _rows(kind.item_type, f"{prefix[:-1]}[].")
    elif isinstance(kind, inspect.StructType):
        for field in kind.fields:
            assert isinstance(field.type, inspect.Metadata)
            text = (field.type.extra_json_schema or {})["description"]
            yield f"{prefix}{field.encode_name}", _default(field), text
            yield from _rows(field.type, f"{prefix}{field.encode_name}.")


def test_every_key_is_documented_with_its_default_and_what_it_does_and_no_other() -> None:
    documented = re.findall(r"^\| `([a-z_.\[\]]+)` \| (.*?) \| (.*) \|$", PAGE.read_text(), re.MULTILINE)

    assert documented == list(_rows(type_of(keys.Dockfile)))
