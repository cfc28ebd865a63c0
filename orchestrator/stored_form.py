"""How a model reads from JSON that it was written to when its value was accepted.

Types are checked, in pydantic's compiled part; what our own functions have checked
before the text was stored is not checked again. Fields that a newer release added are
left out. Knows no model.
"""

from __future__ import annotations

from functools import reduce
from operator import or_
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    create_model,
)

from conversations.json_copies import CopiedOnce

_OURS = (AfterValidator, BeforeValidator, CopiedOnce)


class StoredForm:
    """Some fields of a model, as stored text."""

    def __init__(self, model: type[BaseModel], *, without: frozenset[str]) -> None:
        """Take a model's fields but those that are kept elsewhere."""
        fields: dict[str, Any] = {}
        for name, field in model.model_fields.items():
            if name in without:
                continue
            plain = field._copy()
            plain.annotation = _plain(field.annotation)
            plain.metadata = [each for each in field.metadata if not _is_ours(each)]
            fields[name] = (plain.annotation, plain)
        config = ConfigDict(extra="ignore", hide_input_in_errors=True)
        made = create_model(f"Stored{model.__name__}", __config__=config, **fields)
        self._reader = made.__pydantic_validator__

    def read(self, text: str) -> dict[str, Any]:
        """Return the fields by name, with their defaults.

        Raises:
            ValueError: it is no such text.
        """
        read: dict[str, Any] = vars(self._reader.validate_json(text))
        return read


def _is_ours(metadata: object) -> bool:
    return isinstance(metadata, _OURS)


def _plain(annotation: Any) -> Any:
    """Return a type without the functions that check it."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        kept = [each for each in arguments[1:] if not _is_ours(each)]
        plain = _plain(arguments[0])
        return Annotated[(plain, *kept)] if kept else plain
    if origin is None or origin is Literal:
        return annotation
    if origin in (Union, UnionType):
        return reduce(or_, map(_plain, arguments))
    return origin[tuple(map(_plain, arguments))]
