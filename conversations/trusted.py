"""Values made of parts that were checked where they came from.

A run makes hundreds of them; pydantic would look at every part, or at every field's
default, again. Knows no model.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
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
_NAMES_OF_A_CLASS = 30


def _new_form(model: type[BaseModel], names: Collection[str]) -> _Form:
    fields = model.model_fields
    factories = {
        name: cast("Callable[[], Any]", field.default_factory)
        for name, field in fields.items()
        if field.default_factory is not None
    }
    return _Form(
        _compact(
            {
                name: None
                if field.is_required() or name in factories
                else field.default
                for name, field in fields.items()
            }
        ),
        tuple((name, make) for name, make in factories.items() if name not in names),
        shared(set(names)),
    )


def _compact(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields in a dictionary whose copies share one table of their names.

    A run holds many values, and a table of its own is half of one. The attributes of a
    class's objects share one (PEP 412), which has room for thirty; each object takes a
    place of it that is not used.
    """

    class Names:
        pass

    holder = Names()
    for _ in range(_NAMES_OF_A_CLASS):
        holder = Names()
        for name, value in fields.items():
            setattr(holder, name, value)
    return min(vars(holder).copy(), fields, key=sys.getsizeof)


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
    _set_fields(made, fields)
    _set_named(made, named)
    _set_extra(made, None)
    _set_private(made, None)
    return made
