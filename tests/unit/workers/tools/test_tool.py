from __future__ import annotations

import asyncio
import logging
import math
import threading
from collections import deque
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from functools import partial, update_wrapper
from itertools import count
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, BeforeValidator, Field, computed_field

from orchestrator.task import Task
from workers.errors import InvalidAgent, InvalidToolArguments, ToolFailed, ToolTimeout
from workers.tools.registry import ToolRegistry
from workers.tools.tool import MAX_THREADS, Tool, ToolContext, tool

CONTEXT = ToolContext(
    task=Task(agent_name="a", tenant="acme", context={"user": "ann"}),
    agent_name="a",
    idempotency_key="key-1",
)


@tool
async def look_up(
    city: str, days: Annotated[int, Field(ge=1)] = 3, unit: Literal["C", "F"] = "C"
) -> dict[str, Any]:
    """Look a city's weather up.

    Old records are left out.

    Args:
        city: Name of the city,
            in English.
        days: How many days.

    Returns:
        What the model need not know.
    """
    return {"city": city, "days": days, "unit": unit}


def test_schema_and_descriptions_come_from_types_and_docstring() -> None:
    assert look_up.spec.name == "look_up"
    assert look_up.spec.description == (
        "Look a city's weather up.\n\nOld records are left out."
    )
    assert look_up.spec.schema_ == {
        "type": "object",
        "additionalProperties": False,
        "required": ["city"],
        "properties": {
            "city": {"type": "string", "description": "Name of the city, in English."},
            "days": {
                "type": "integer",
                "minimum": 1,
                "default": 3,
                "description": "How many days.",
            },
            "unit": {"type": "string", "enum": ["C", "F"], "default": "C"},
        },
    }


def test_settings_are_taken_from_the_decorator() -> None:
    @tool(name="charge", effect="idempotent", timeout_seconds=5)
    def function(amount: int) -> int:
        return amount

    assert (function.name, function.effect, function.timeout_seconds) == (
        "charge",
        "idempotent",
        5,
    )
    assert look_up.effect == "once"


async def test_arguments_are_converted_and_defaults_are_the_functions() -> None:
    result = await look_up.call({"city": "Oslo", "days": "2"}, CONTEXT)
    assert result == {"city": "Oslo", "days": 2, "unit": "C"}


async def test_bad_arguments_are_listed_and_the_function_is_not_run() -> None:
    with pytest.raises(InvalidToolArguments) as caught:
        await look_up.call({"days": 0, "town": "Oslo", "unit": "K"}, CONTEXT)
    text = str(caught.value)
    assert "city: Field required" in text
    assert "days: Input should be greater than or equal to 1" in text
    assert "town: Extra inputs are not permitted" in text
    assert "pydantic.dev" not in text


async def test_many_bad_arguments_are_told_in_short() -> None:
    with pytest.raises(InvalidToolArguments, match="and 195 more"):
        await look_up.call({"city": "x"} | {f"a{n}": n for n in range(200)}, CONTEXT)


async def test_argument_names_may_be_any() -> None:
    @tool
    def names(json: str, schema: str, model_config: int = 1) -> str:
        return f"{json}{schema}{model_config}"

    assert await names.call({"json": "a", "schema": "b"}, CONTEXT) == "ab1"


async def test_context_is_given_and_hidden_from_the_model() -> None:
    @tool
    def who(ctx: ToolContext, greeting: str) -> list[Any]:
        """Greet."""
        return [greeting, ctx.tenant, ctx.context["user"], ctx.idempotency_key]

    assert list(who.spec.schema_["properties"]) == ["greeting"]  # type: ignore[arg-type]
    assert await who.call({"greeting": "hi"}, CONTEXT) == ["hi", "acme", "ann", "key-1"]
    with pytest.raises(InvalidToolArguments, match="ctx: Extra inputs"):
        await who.call({"greeting": "hi", "ctx": {}}, CONTEXT)


async def test_context_may_be_a_keyword_or_have_no_name() -> None:
    def named(*, ctx: ToolContext, greeting: str) -> str:
        return greeting + ctx.tenant

    def unnamed(ctx: ToolContext, /, greeting: str) -> str:
        return greeting + ctx.tenant

    for function in (named, unnamed):
        found = Tool(function)
        assert list(found.spec.schema_["properties"]) == ["greeting"]  # type: ignore[arg-type]
        assert await found.call({"greeting": "hi "}, CONTEXT) == "hi acme"


def test_a_context_that_no_call_would_give_is_refused() -> None:
    def second(greeting: str, ctx: ToolContext) -> None: ...
    def optional(ctx: ToolContext | None, greeting: str) -> None: ...
    def marked(ctx: Annotated[ToolContext, "mine"], greeting: str) -> None: ...

    for function in (second, optional, marked):
        told = "'ctx' .*ToolContext is given as the first parameter, annotated just so"
        with pytest.raises(InvalidAgent, match=told):
            Tool(function)


async def test_plain_functions_run_in_a_thread_and_async_ones_on_the_loop() -> None:
    @tool
    def thread_name() -> str:
        return threading.current_thread().name

    @tool
    async def loop_name() -> str:
        return threading.current_thread().name

    assert await thread_name.call({}, CONTEXT) == "tool-thread_name"
    assert await loop_name.call({}, CONTEXT) == threading.current_thread().name


async def test_plain_functions_run_in_a_bounded_number_of_threads() -> None:
    running: list[str] = []
    release = threading.Event()
    full = threading.Event()

    def wait() -> str:
        running.append(threading.current_thread().name)
        if len(running) == MAX_THREADS:
            full.set()
        release.wait(10)
        return "done"

    waiting = Tool(wait)
    calls = [asyncio.create_task(waiting.call({}, CONTEXT)) for _ in range(40)]
    assert await asyncio.to_thread(full.wait, 10)
    assert len(running) == MAX_THREADS
    release.set()
    assert await asyncio.gather(*calls) == ["done"] * 40


async def test_async_tool_that_hangs_is_timed_out_and_cancelled() -> None:
    cancelled = asyncio.Event()

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    with pytest.raises(ToolTimeout, match=r"hang did not end within 0.01 s"):
        await Tool(hang, timeout_seconds=0.01).call({}, CONTEXT)
    assert cancelled.is_set()


async def test_plain_tool_that_hangs_is_timed_out() -> None:
    release = threading.Event()

    def hang() -> None:
        release.wait(10)

    with pytest.raises(ToolTimeout):
        await Tool(hang, timeout_seconds=0.01).call({}, CONTEXT)
    release.set()


async def test_timeout_of_something_inside_the_tool_is_a_failure_not_its_timeout() -> (
    None
):
    async def inner() -> None:
        raise TimeoutError("the database is slow")

    with pytest.raises(ToolFailed, match="TimeoutError: the database is slow"):
        await Tool(inner).call({}, CONTEXT)


@pytest.mark.parametrize("threaded", [True, False])
async def test_where_a_tool_raises_is_logged_for_who_wrote_it(
    caplog: pytest.LogCaptureFixture, threaded: bool
) -> None:
    def find(number: str) -> str:
        return {"A-17": "delivered"}[number]

    async def find_later(number: str) -> str:
        return find(number)

    found = Tool(find if threaded else find_later, name="find")
    with caplog.at_level(logging.INFO), pytest.raises(ToolFailed, match="KeyError"):
        await found.call({"number": "A-18"}, CONTEXT)

    (line,) = caplog.records
    facts = vars(line)
    assert line.getMessage() == "tool raised"
    assert (facts["tool"], facts["type"]) == ("find", "KeyError")
    assert facts["task_id"] == CONTEXT.task.id
    assert facts["at"].startswith(f"{__file__}:")
    assert facts["at"].endswith(" in find")
    assert "A-18" not in str(facts)


class OfNoFamily(BaseException):
    """What libraries raise that are sure not to be caught."""


class WithoutText(Exception):
    """An error whose text is an error."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no"),
        StopIteration("no"),
        SystemExit("no"),
        KeyError("no"),
        OfNoFamily("no"),
        WithoutText("no"),
        BaseExceptionGroup("no", [OfNoFamily("no")]),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_exception_becomes_type_and_text_without_a_traceback(
    error: BaseException, kind: str
) -> None:
    def plain() -> None:
        raise error

    async def coroutine() -> None:
        raise error

    failing = Tool(plain if kind == "plain" else coroutine, name="failing")
    with pytest.raises(ToolFailed) as caught:
        await failing.call({}, CONTEXT)
    assert str(caught.value).startswith("failing failed: ")
    assert type(error).__name__ in str(caught.value)
    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize("error", [KeyboardInterrupt, GeneratorExit])
async def test_what_ends_a_thread_is_told_like_any_failure(
    error: type[BaseException],
) -> None:
    def stop() -> None:
        raise error

    with pytest.raises(ToolFailed, match=error.__name__):
        await Tool(stop).call({}, CONTEXT)


async def test_long_exception_texts_are_cut() -> None:
    def fail() -> None:
        raise ValueError("x" * 100_000)

    with pytest.raises(ToolFailed) as caught:
        await Tool(fail).call({}, CONTEXT)
    assert len(str(caught.value)) < 1100


class City(BaseModel):
    name: str
    founded: date


@dataclass
class Trip:
    to: City
    cost: Decimal | float


def cycle() -> list[object]:
    made: list[object] = []
    made.append(made)
    return made


@pytest.mark.parametrize(
    ("result", "why"),
    [
        (object(), "type object"),
        ({"a": float("nan")}, "result.a: not JSON"),
        ([Trip(City(name="a", founded=date.max), math.inf)], r"\[0\].cost: not JSON"),
        (iter([1]), "type list_iterator"),
        ([{"a": object()}], "type object"),
        (b"\xff", "type bytes"),
        (cycle(), "deep"),
    ],
)
async def test_result_that_is_not_json_is_a_failure(result: object, why: str) -> None:
    def give() -> object:
        return result

    with pytest.raises(ToolFailed, match=why):
        await Tool(give).call({}, CONTEXT)


async def test_result_is_plain_json_as_a_resumed_run_would_read_it() -> None:
    def give() -> object:
        return {"pair": (1, 2)}

    assert await Tool(give).call({}, CONTEXT) == {"pair": [1, 2]}


async def test_result_may_be_what_pydantic_can_say_in_json() -> None:
    def give() -> object:
        return {"trips": [Trip(City(name="Rome", founded=date(1, 4, 21)), Decimal(2))]}

    assert await Tool(give).call({}, CONTEXT) == {
        "trips": [{"to": {"name": "Rome", "founded": "0001-04-21"}, "cost": "2"}]
    }


@pytest.mark.parametrize(
    ("result", "told"),
    [({1: 2}, {"1": 2}), (Path("/a"), "/a"), ({3}, [3]), (timedelta(hours=1), "PT1H")],
)
async def test_result_of_a_type_that_json_knows_no_name_for(
    result: object, told: object
) -> None:
    def give() -> object:
        return result

    assert await Tool(give).call({}, CONTEXT) == told


@dataclass
class Page:
    rows: object


class Loose(BaseModel, extra="allow"):
    pass


@pytest.mark.parametrize(
    "result",
    [
        [count()],
        {"rows": {"of": count()}},
        Page(rows=[count()]),
        ({count()},),
        deque([count()]),
        Loose(rows=count()),
    ],
)
async def test_what_may_have_no_end_is_not_read(result: object) -> None:
    def give() -> object:
        return result

    with pytest.raises(ToolFailed, match="not JSON"):
        await Tool(give).call({}, CONTEXT)


class Order(BaseModel):
    price: int | None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def total(self) -> int:
        return {5: 6}[self.price or 0]


async def test_result_whose_own_code_raises_is_a_failure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The call has had its effect: its end must be recorded."""

    def give() -> Order:
        return Order(price=None)

    with (
        caplog.at_level(logging.INFO),
        pytest.raises(ToolFailed, match="give failed: KeyError: 0"),
    ):
        await Tool(give, effect="once").call({}, CONTEXT)
    (line,) = caplog.records
    assert vars(line)["at"].endswith(" in total")


async def test_cancelling_the_call_cancels_the_tool() -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def hang() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    call = asyncio.create_task(Tool(hang).call({}, CONTEXT))
    await started.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert ended.is_set()


async def test_object_with_an_async_call_can_be_a_tool() -> None:
    class Client:
        async def ask(self, question: str) -> str:
            """Ask."""
            return question.upper()

    assert await Tool(Client().ask).call({"question": "why"}, CONTEXT) == "WHY"


async def test_callable_object_can_be_a_tool() -> None:
    class Client:
        """Speaks to the shop."""

        async def __call__(self, question: str) -> str:
            """Ask."""
            return question.upper()

    asked = Tool(Client(), name="ask")

    assert asked.spec.description == "Ask."
    assert list(asked.spec.schema_["properties"]) == ["question"]  # type: ignore[arg-type]
    assert await asked.call({"question": "why"}, CONTEXT) == "WHY"


class Undescribed:
    def __call__(self, question: str) -> str:
        return question.upper()


def test_callable_object_without_a_docstring_has_no_description() -> None:
    """Python has one for it, "Call self as a function."."""
    assert Tool(Undescribed(), name="ask").spec.description == ""


async def test_object_that_wraps_a_function_can_be_a_tool() -> None:
    class Shouted:
        def __init__(self, function: Any) -> None:
            update_wrapper(self, function)
            self.function = function

        def __call__(self, *args: Any, **keywords: Any) -> Any:
            return self.function(*args, **keywords).upper()

    @tool
    @Shouted
    def ask(question: str) -> str:
        """Ask."""
        return question

    assert ask.spec.description == "Ask."
    assert await ask.call({"question": "why"}, CONTEXT) == "WHY"


async def test_partial_can_be_a_tool() -> None:
    async def ask(client: object, question: str, times: int, loud: bool = True) -> str:
        """Ask."""
        return (question.upper() if loud else question) * times

    asked = Tool(partial(ask, object(), times=2), name="ask")

    assert asked.spec.description == "Ask."
    assert list(asked.spec.schema_["properties"]) == ["question", "loud"]  # type: ignore[arg-type]
    assert asked.spec.schema_["required"] == ["question"]
    assert await asked.call({"question": "why"}, CONTEXT) == "WHYWHY"
    with pytest.raises(InvalidToolArguments, match="times: Extra inputs"):
        await asked.call({"question": "why", "times": 3}, CONTEXT)


def test_what_is_no_function_is_refused() -> None:
    for item in ("find_order", None, 5):
        told = f"a tool must be a function .*got {type(item).__name__}"
        with pytest.raises(InvalidAgent, match=told):
            ToolRegistry([item])  # type: ignore[list-item]
    with pytest.raises(InvalidAgent, match="'int': its parameters cannot be read"):
        Tool(int)


def test_a_method_without_its_object_is_refused() -> None:
    class Shop:
        def look(self, number: str) -> None: ...

    with pytest.raises(InvalidAgent, match=r"'look': .*'self'.*Tool\(shop\.look\)"):
        Tool(Shop.look)


def test_function_that_no_model_could_call_is_refused() -> None:
    def untyped(city):  # type: ignore[no-untyped-def]
        return city

    def variadic(*cities: str) -> None: ...

    def positional(city: str, /) -> None: ...

    def no_json(number: int, lock: threading.Event) -> None: ...

    with pytest.raises(InvalidAgent, match="'city' has no type; annotate it"):
        Tool(untyped)
    with pytest.raises(InvalidAgent, match="cities"):
        Tool(variadic)
    with pytest.raises(InvalidAgent, match="city"):
        Tool(positional)
    with pytest.raises(InvalidAgent, match="'lock': its type has no JSON form"):
        Tool(no_json)


def test_annotations_that_cannot_be_read_are_refused_by_name() -> None:
    def missing(at: asyncio.Nothing) -> str: ...  # type: ignore[name-defined]
    def no_type(at: str) -> str: ...

    no_type.__annotations__["at"] = "two words"
    for function in (missing, no_type):
        with pytest.raises(InvalidAgent, match="its annotations cannot be read"):
            Tool(function)


@pytest.mark.parametrize("default", [math.inf, math.nan, b"\xff", "\ud800", object()])
async def test_a_default_that_is_no_json_is_not_told_and_holds(default: object) -> None:
    @tool
    def echo(at: Any = default) -> bool:
        """Tell whether it was left out."""
        return at is default

    assert echo.spec.schema_["properties"] == {"at": {}}
    assert await echo.call({}, CONTEXT) is True


class Search(BaseModel):
    most: float = math.inf
    words: int = 3
    seal: bytes = b"\xff"


@pytest.mark.filterwarnings("error")
async def test_neither_is_one_within_a_model() -> None:
    @tool
    def search(query: Search) -> bool:
        """Tell whether all may be found."""
        return (query.most, query.seal) == (math.inf, b"\xff")

    fields = search.spec.schema_["$defs"]["Search"]["properties"]
    assert {name for name in fields if "default" in fields[name]} == {"words"}
    assert await search.call({"query": {}}, CONTEXT) is True


def _counted(city: object) -> object:
    return {"Rome": 1}[str(city)]


async def test_an_error_of_an_arguments_own_validator_is_told_to_the_model() -> None:
    @tool
    def population(city: Annotated[int, BeforeValidator(_counted)]) -> int:
        """Tell how many live there."""
        return city

    assert await population.call({"city": "Rome"}, CONTEXT) == 1
    assert not population.accepts({"city": "Paris"})
    with pytest.raises(InvalidToolArguments, match="KeyError: 'Paris'"):
        await population.call({"city": "Paris"}, CONTEXT)


def test_bad_settings_are_refused() -> None:
    def function() -> None: ...

    with pytest.raises(InvalidAgent, match="tool name 'two words'"):
        Tool(function, name="two words")
    with pytest.raises(InvalidAgent, match="give name="):
        Tool(lambda: None)
    with pytest.raises(InvalidAgent, match="timeout_seconds must be above 0"):
        Tool(function, timeout_seconds=0)
    with pytest.raises(InvalidAgent, match="effect must be"):
        Tool(function, effect="harmless")  # type: ignore[arg-type]


async def test_a_tool_that_is_cancelled_from_within_has_failed_and_ends_no_run() -> (
    None
):
    @tool
    async def broken() -> str:
        """Await something that was cancelled."""
        raise asyncio.CancelledError

    with pytest.raises(ToolFailed, match="was cancelled"):
        await broken.call({}, CONTEXT)
