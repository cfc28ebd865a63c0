"""Values made of parts that were checked where they came from.

A run makes hundreds of them; pydantic would look at every part, or at every field's
default, again. Knows no model.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from itertools import repeat
from typing import Any, NamedTuple, TypeVar, cast

from pydantic import BaseModel

from conversations.shared_names import shared

M = TypeVar("M", bound=BaseModel)

_new = object.__new__
_set = object.__setattr__
_slots = vars(BaseModel)
_set_fields = _slots["__dict__"].__set__
_set_named = _slots["__pydantic_fields_set__"].__set__
_set_extra = _slots["__pydantic_extra__"].__set__
_set_private = _slots["__pydantic_private__"].__set__
# `object.__setattr__`, which pydantic takes, looks through all bases at each call.

_compact: set[type[BaseModel]] = set()
_MOST_SHARED = 30
"""Names that values of one class can share in CPython."""


def compact(model: type[M]) -> type[M]:
    """Have the values of a model that are made here share one table of its fields.

    For a model of more than ten fields of which a run holds many: a value takes half of
    the memory, and its making twice the time. The first value of a class decides which
    names all share, those of attributes that are set one by one (PEP 412); so this
    decorates the class. What pydantic makes has a dictionary of its own.
    """
    if len(model.model_fields) <= _MOST_SHARED:
        _compact.add(model)
        whole(model, dict.fromkeys(model.model_fields))
    return model


class _Form(NamedTuple):
    """How a value of a model is made whose caller names these fields, in this order."""

    blank: dict[str, Any]
    """All fields as the model orders them, with the default of those not named."""
    made_anew: tuple[tuple[str, Callable[[], Any]], ...]
    """Fields that are not named and whose default no two values share."""
    named: set[str]


_forms: dict[tuple[object, ...], _Form] = {}
"""By model and names; there are as many as there are callers."""


_all_named: dict[type[BaseModel], set[str]] = {}


def _new_form(model: type[BaseModel], names: Collection[str]) -> _Form:
    fields = model.model_fields
    factories = {
        name: cast("Callable[[], Any]", field.default_factory)
        for name, field in fields.items()
        if field.default_factory is not None
    }
    return _Form(
        {
            name: None if field.is_required() or name in factories else field.default
            for name, field in fields.items()
        },
        tuple((name, make) for name, make in factories.items() if name not in names),
        shared(set(names)),
    )


def trusted(model: type[M], /, **values: Any) -> M:
    """Return a value of a model; fields that are not named have their default.

    Nothing is checked: the caller has made or checked every part, and names all fields
    that have no default.
    """
    kind = (model, *values)
    form = _forms.get(kind)
    if form is None:
        form = _forms[kind] = _new_form(model, values)
    blank, made_anew, named = form
    fields = blank | values
    for name, make in made_anew:
        fields[name] = make()
    return _made(model, fields, named)


def whole(model: type[M], fields: dict[str, Any]) -> M:
    """Return a value of all fields of a model, in its order; it takes them over.

    As with `trusted`, nothing is checked.
    """
    named = _all_named.get(model)
    if named is None:
        named = _all_named[model] = shared(set(fields))
    return _made(model, fields, named)


def changed(value: M, /, **changes: Any) -> M:
    """Return a copy of a frozen value with other fields, which are not checked."""
    named = value.__pydantic_fields_set__
    if not changes.keys() <= named:
        named = shared(named | changes.keys())
    return _made(type(value), value.__dict__ | changes, named)


def _made(model: type[M], fields: dict[str, Any], named: set[str]) -> M:
    made = _new(model)
    if model in _compact:
        any(map(_set, repeat(made), fields, fields.values()))  # each answers None
    else:
        _set_fields(made, fields)
    _set_named(made, named)
    _set_extra(made, None)
    _set_private(made, None)
    return made
