"""Values made of parts that were checked where they came from.

A run makes hundreds of them; pydantic would look at every part, or at every field's
default, again. Knows no model.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple, TypeVar, cast

from pydantic import BaseModel

from conversations.shared_names import shared

M = TypeVar("M", bound=BaseModel)

_new = object.__new__
_slots = vars(BaseModel)
_set_fields = _slots["__dict__"].__set__
_set_named = _slots["__pydantic_fields_set__"].__set__
_set_extra = _slots["__pydantic_extra__"].__set__
_set_private = _slots["__pydantic_private__"].__set__
# `object.__setattr__`, which pydantic takes, looks through all bases at each call.

_named: dict[tuple[str, ...], set[str]] = {}
"""Names as a caller wrote them, of which there are as many as callers."""


class _Form(NamedTuple):
    """The fields of a model in their order, as they are when nobody names them."""

    blank: dict[str, Any]
    """None where a value must be named."""
    made_anew: tuple[tuple[str, Callable[[], Any]], ...]
    """Fields whose default no two values share."""


@cache
def _form_of(model: type[BaseModel]) -> _Form:
    fields = model.model_fields
    return _Form(
        {
            name: None
            if field.is_required() or field.default_factory is not None
            else field.default
            for name, field in fields.items()
        },
        tuple(
            (name, cast("Callable[[], Any]", field.default_factory))
            for name, field in fields.items()
            if field.default_factory is not None
        ),
    )


def trusted(model: type[M], /, **values: Any) -> M:
    """Return a value of a model; fields that are not named have their default.

    Nothing is checked: the caller has made or checked every part, and names all fields
    that have no default.
    """
    blank, made_anew = _form_of(model)
    fields = blank | values
    for name, make in made_anew:
        if name not in values:
            fields[name] = make()
    order = tuple(values)
    named = _named.get(order)
    if named is None:
        named = _named[order] = shared(set(order))
    return _made(model, fields, named)


def changed(value: M, /, **changes: Any) -> M:
    """Return a copy of a frozen value with other fields, which are not checked."""
    named = value.__pydantic_fields_set__ | changes.keys()
    return _made(type(value), value.__dict__ | changes, shared(named))


def _made(model: type[M], fields: dict[str, Any], named: set[str]) -> M:
    made = _new(model)
    _set_fields(made, fields)
    _set_named(made, named)
    _set_extra(made, None)
    _set_private(made, None)
    return made
