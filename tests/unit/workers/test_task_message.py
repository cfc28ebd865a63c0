"""What is taken for a call of a task, and what is not."""

from __future__ import annotations

import base64
import json
import pickle
from typing import Any

import pytest
from celery import Celery
from hypothesis import given
from hypothesis import strategies as st

from workers.task_message import (
    MAX_LABEL_CHARACTERS,
    MAX_MESSAGE_BYTES,
    MalformedMessage,
    parse_task_call,
)

NAME = "celeriac.run"


def encoded(body: Any) -> str:
    return base64.b64encode(json.dumps(body).encode()).decode()


def envelope(
    headers: dict[str, Any] | None = None,
    properties: dict[str, Any] | None = None,
    **fields: Any,
) -> dict[str, Any]:
    return {
        "body": encoded([["a"], {"b": 1}, {"callbacks": None}]),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"id": "t1", "task": NAME, **(headers or {})},
        "properties": {
            "delivery_tag": "d1",
            "body_encoding": "base64",
            "priority": 3,
            **(properties or {}),
        },
        **fields,
    }


def raw(**changes: Any) -> bytes:
    return json.dumps(envelope(**changes)).encode()


def reason(message: bytes, accept: list[str] | None = None) -> str:
    with pytest.raises(MalformedMessage) as caught:
        parse_task_call(message, accept=accept)
    return caught.value.reason


def test_a_call_is_read_whole() -> None:
    call = parse_task_call(raw(), accept=[NAME])
    assert (call.id, call.name, call.args, call.kwargs, call.priority) == (
        "t1",
        NAME,
        ["a"],
        {"b": 1},
        3,
    )


def test_what_stock_celery_sends_is_read() -> None:
    app = Celery("stock", set_as_current=False)
    sent = app.amqp.as_task_v2("t1", NAME, ("a",), {"b": 1}, shadow="agent.x")
    plain = {
        "headers": sent.headers,
        "properties": {**sent.properties, "delivery_tag": "d1"},
        "body": json.dumps(sent.body),
        "content-type": "application/json",
        "content-encoding": "utf-8",
    }
    call = parse_task_call(json.dumps(plain).encode(), accept=None)
    assert (call.args, call.kwargs, call.labels["shadow"]) == (
        ["a"],
        {"b": 1},
        "agent.x",
    )


def test_limits_delays_retries_and_links_of_a_message_are_left_out() -> None:
    forged = {
        "eta": "2099-01-01T00:00:00",
        "expires": "1999-01-01T00:00:00",
        "retries": 99,
        "timelimit": [0.001, 0.001],
        "shadow": ["no", "text"],
        "argsrepr": "x" * (MAX_LABEL_CHARACTERS + 1),
        "traceparent": "00-1-2-01",
    }
    call = parse_task_call(raw(headers=forged), accept=None)
    assert call.labels == {"traceparent": "00-1-2-01"}
    assert not hasattr(call, "embed")


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (b"", "not_json"),
        (b"{", "not_json"),
        (b"\xff\xfe", "not_json"),
        (b"[" * 100_000, "not_json"),
        (pickle.dumps({"headers": {}}), "not_json"),
        (b"7", "not_an_object"),
        (b"null", "not_an_object"),
        (b'"text"', "not_an_object"),
        (b"[1, 2]", "not_an_object"),
        (b"{}", "headers"),
        (raw(headers=None) + b"trailing", "not_json"),
        (b" " * (MAX_MESSAGE_BYTES + 1), "too_large"),
        (json.dumps({**envelope(), "headers": None}).encode(), "headers"),
        (json.dumps({**envelope(), "headers": [1]}).encode(), "headers"),
        (json.dumps({**envelope(), "properties": 3}).encode(), "properties"),
        (raw(properties={"delivery_tag": None}), "delivery_tag"),
        (raw(properties={"delivery_tag": {}}), "delivery_tag"),
        (raw(properties={"body_encoding": "rot13"}), "body_encoding"),
        (raw(headers={"id": None}), "id"),
        (raw(headers={"id": ""}), "id"),
        (raw(headers={"id": 7}), "id"),
        (raw(headers={"id": "a\0b"}), "id"),
        (raw(headers={"id": "\ud800"}), "id"),
        (raw(headers={"id": "x" * 1000}), "id"),
        (raw(headers={"task": None}), "task"),
        (raw(headers={"task": ["x"]}), "task"),
        (raw(headers={"compression": "application/x-gzip"}), "content_type"),
        (json.dumps(envelope() | {"content-type": "application/x-python-serialize"})
         .encode(), "content_type"),
        (json.dumps(envelope() | {"content-type": "application/x-yaml"}).encode(),
         "content_type"),
        (json.dumps(envelope() | {"content-type": None}).encode(), "content_type"),
        (json.dumps(envelope() | {"content-encoding": "utf-7"}).encode(),
         "content_type"),
        (raw(body="!!!"), "body"),
        (raw(body="\u00e9"), "body"),
        (raw(body=None), "body"),
        (raw(body=[[], {}, {}]), "body"),
        (raw(body=base64.b64encode(b"\xff\xfe\xff").decode()), "not_json"),
        (raw(body=encoded({"args": []})), "body"),
        (raw(body=encoded([[], {}])), "body"),
        (raw(body=encoded([{}, [], {}])), "body"),
        (raw(body=encoded(["a", {}, {}])), "body"),
        (raw(body=encoded([[], {}, "links"])), "body"),
    ],
)  # fmt: skip
def test_garbage_is_named(message: bytes, expected: str) -> None:
    assert reason(message) == expected


def test_a_foreign_task_is_refused_when_names_are_given() -> None:
    message = raw(headers={"task": "os.system"})
    assert reason(message, [NAME]) == "foreign_task"
    assert parse_task_call(message, accept=None).name == "os.system"


def test_types_of_kombus_json_stay_plain() -> None:
    kombu_type = {"__type__": "uuid", "__value__": "nope"}
    call = parse_task_call(raw(body=encoded([[kombu_type], {}, {}])), accept=None)
    assert call.args == [kombu_type]


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_else(message: bytes) -> None:
    with pytest.raises(MalformedMessage):
        parse_task_call(message, accept=None)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(
    field=st.sampled_from(
        ["body", "content-type", "content-encoding", "headers", "properties"]
    ),
    value=JSON,
)
def test_no_value_of_a_field_raises_anything_else(field: str, value: Any) -> None:
    message = json.dumps({**envelope(), field: value}).encode()
    try:
        call = parse_task_call(message, accept=None)
    except MalformedMessage:
        return
    assert call.id
