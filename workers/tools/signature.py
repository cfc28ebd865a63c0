"""What a function's signature and docstring say about it as a tool.

The argument schema is pydantic's, the descriptions are read from a Google-style
docstring. Knows nothing of running tools.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, NotRequired, get_args, get_type_hints

from pydantic import ConfigDict, Field, PydanticUserError, TypeAdapter, ValidationError
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import PydanticSerializationError, to_jsonable_python
from typing_extensions import TypedDict

from conversations.json_value import JsonObject, NotStorable, check_json
from workers.errors import InvalidAgent, InvalidToolArguments, text_of

MAX_FINDINGS = 5
"""Faults of one call that are told to the model; more would not help it."""
MAX_FAULT_CHARACTERS = 1000
"""Of an exception of the tool's own validators."""
_SECTION = re.compile(r"^\s*\w[\w -]*:", re.MULTILINE)
"""What a section of a docstring begins with, such as `Args:`."""
_INHERITED = inspect.getdoc(type.__call__)
"""The docstring of a `__call__` that was given none."""


@dataclass(frozen=True, kw_only=True)
class Signature:
    """A function as a tool: what the model is told, and how arguments are checked."""

    description: str
    schema: JsonObject
    context: inspect.Parameter | None
    """The one that the context is given as."""
    _adapter: TypeAdapter[dict[str, Any]]

    def validate(self, arguments: JsonObject) -> dict[str, Any]:
        """Return the function's keyword arguments.

        Raises:
            InvalidToolArguments: lists what does not fit, by argument.
        """
        try:
            return self._adapter.validate_python(arguments)
        except ValidationError as exc:
            raise InvalidToolArguments(_findings(exc)) from exc
        except Exception as exc:  # of a validator of the tool's own
            text = f"{type(exc).__name__}: {text_of(exc)}"[:MAX_FAULT_CHARACTERS]
            raise InvalidToolArguments(f"invalid arguments: {text}") from exc


def read_signature(
    function: Callable[..., Any], *, name: str, context: type
) -> Signature:
    """Read the signature of the tool `name`.

    A leading parameter of type `context` is hidden, and so is what a `partial` binds.

    Raises:
        InvalidAgent: a parameter cannot be an argument of a tool; names it.
    """
    written = _written(function)
    try:
        hints = get_type_hints(written, include_extras=True)
    except (NameError, AttributeError, SyntaxError, TypeError) as exc:
        raise InvalidAgent(
            f"tool {name!r}: its annotations cannot be read ({exc});"
            " use types that its module imports at run time"
        ) from exc
    parameters = _parameters(name, function)
    leading = parameters[0] if parameters else None
    if leading is not None and hints.get(leading.name) is not context:
        leading = None
    docstring = inspect.getdoc(written) or ""
    description, described = _read_docstring(
        "" if docstring == _INHERITED else docstring
    )
    fields = {}
    for parameter in parameters[leading is not None :]:
        _check_parameter(name, parameter, hints, context)
        fields[parameter.name] = _field(parameter, hints, described)
    adapter, schema = _adapter_of(name, fields)
    return Signature(
        description=description, schema=schema, context=leading, _adapter=adapter
    )


def _written(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return what holds the annotations and the docstring of a callable."""
    if isinstance(function, partial):
        return _written(function.func)
    is_its_own = inspect.isroutine(function) or inspect.isclass(function)
    if is_its_own or hasattr(function, "__wrapped__"):
        return function
    called: Callable[..., Any] = type(function).__call__
    return called


def _parameters(tool: str, function: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError as exc:  # of a type that is written in C
        raise InvalidAgent(
            f"tool {tool!r}: its parameters cannot be read ({exc});"
            " wrap it in a function with typed parameters"
        ) from exc
    bound = function.keywords if isinstance(function, partial) else {}
    return [parameter for parameter in parameters if parameter.name not in bound]


def _check_parameter(
    tool: str, parameter: inspect.Parameter, hints: dict[str, Any], context: type
) -> None:
    name = parameter.name
    if parameter.kind not in (
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.KEYWORD_ONLY,
    ):
        raise InvalidAgent(
            f"tool {tool!r}: parameter {parameter} has no name that a model could give;"
            " use ordinary parameters"
        )
    if name not in hints:
        remedy = "annotate it"
        if name in ("self", "cls"):
            remedy = f"make the tool of an object's method, as in Tool(shop.{tool})"
        raise InvalidAgent(f"tool {tool!r}: parameter {name!r} has no type; {remedy}")
    if context in (hints[name], *get_args(hints[name])):
        raise InvalidAgent(
            f"tool {tool!r}: parameter {name!r} cannot be given by a model; a"
            f" {context.__name__} is given as the first parameter, annotated just so"
        )


def _field(
    parameter: inspect.Parameter, hints: dict[str, Any], described: dict[str, str]
) -> Any:
    hint = hints[parameter.name]
    extra: dict[str, Any] = {}
    if parameter.name in described:
        extra["description"] = described[parameter.name]
    if parameter.default is inspect.Parameter.empty:
        return Annotated[hint, Field(**extra)]
    default = _json_or_none(parameter.default)
    if default is not None:
        extra["json_schema_extra"] = {"default": default}
    return NotRequired[Annotated[hint, Field(**extra)]]


def _json_or_none(value: object) -> Any:
    try:
        return check_json(to_jsonable_python(value))
    except ValueError:  # infinity, bytes, objects: the function knows its default
        return None


class _SaidInJson(GenerateJsonSchema):
    """Leaves out defaults within models that JSON cannot say, as `_json_or_none`."""

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012

    def encode_default(self, dft: object) -> Any:
        try:
            return check_json(super().encode_default(dft))
        except ValueError as exc:  # NotStorable, or one of an older pydantic's own
            raise PydanticSerializationError(str(exc)) from exc


def _adapter_of(
    tool: str, fields: dict[str, Any]
) -> tuple[TypeAdapter[dict[str, Any]], JsonObject]:
    # A TypedDict, not a model: any argument name is allowed in it, and arguments that
    # the model leaves out stay out, so that the function's own defaults apply.
    make: Any = TypedDict
    arguments = make("Arguments", fields)
    arguments.__pydantic_config__ = ConfigDict(extra="forbid")
    try:
        adapter = TypeAdapter[dict[str, Any]](arguments)
        schema = adapter.json_schema(schema_generator=_SaidInJson)
        check_json(schema)
    except PydanticUserError as exc:
        if len(fields) > 1:
            for name, field in fields.items():  # which of them it is
                _adapter_of(tool, {name: field})
        raise InvalidAgent(
            f"tool {tool!r}: parameter {', '.join(map(repr, fields))}: its type has no"
            f" JSON form ({exc.code}); use text, numbers, booleans, lists, dictionaries"
            " or pydantic models"
        ) from exc
    except NotStorable as exc:
        raise InvalidAgent(f"tool {tool!r}: its arguments' schema: {exc}") from exc
    del schema["title"]
    for field in schema["properties"].values():
        field.pop("title", None)
    return adapter, schema


def _read_docstring(text: str) -> tuple[str, dict[str, str]]:
    if not _SECTION.search(text):
        return text.strip(), {}
    # Two MiB that a worker whose tools' docstrings have no sections does without.
    import griffe  # noqa: PLC0415

    description: list[str] = []
    arguments: dict[str, str] = {}
    for section in griffe.Docstring(text).parse("google", warnings=False):
        if section.kind is griffe.DocstringSectionKind.text:
            description.append(section.value.strip())
        elif section.kind is griffe.DocstringSectionKind.parameters:
            for argument in section.value:
                arguments[argument.name] = " ".join(argument.description.split())
    return "\n\n".join(description), arguments


def _findings(error: ValidationError) -> str:
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    told = [
        f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"
        for fault in faults[:MAX_FINDINGS]
    ]
    if len(faults) > MAX_FINDINGS:
        told.append(f"and {len(faults) - MAX_FINDINGS} more")
    return f"invalid arguments: {'; '.join(told)}. Call again with these corrected."
