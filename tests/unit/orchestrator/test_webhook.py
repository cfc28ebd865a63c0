"""Where webhooks may go and how they are signed."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime

import pytest
from pydantic import SecretStr, ValidationError

from orchestrator.agent_config import AgentConfig
from orchestrator.errors import InvalidInput
from orchestrator.request import Defaults, parse_request
from orchestrator.settings import WebhookSettings
from orchestrator.task import Task, TaskResult, TaskStatus
from orchestrator.task_building import build_task
from orchestrator.webhook import (
    is_allowed,
    receiver_of,
    webhook_body,
    webhook_headers,
)
from orchestrator.webhook_secret import signing_key

SECRET = "of this test"  # noqa: S105
ALLOWED = ("https://hooks.example.com/celeriac/", "http://127.0.0.1:9000")


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example.com/celeriac/a?b=c",
        "https://hooks.example.com:443/celeriac",
        "http://127.0.0.1:9000/any",
        "http://127.0.0.1:9000",
    ],
)
def test_a_url_below_an_allowed_one_is_taken(url: str) -> None:
    assert is_allowed(url, ALLOWED)


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.com/celeriac/a",
        "https://hooks.example.com.evil.org/celeriac/a",
        "https://hooks.example.com@evil.org/celeriac/a",
        "https://user:secret@hooks.example.com/celeriac/a",
        "https://hooks.example.com:8443/celeriac/a",
        "https://hooks.example.com/celeriacs",
        "https://hooks.example.com/celeriac/../admin",
        "https://hooks.example.com/celeriac/%2e%2e/admin",
        "http://127.0.0.1:9001/",
        "http://2130706433:9000/",
        "http://[::ffff:127.0.0.1]:9000/",
        "file:///etc/passwd",
        "http://127.0.0.1:x/",
        " https://hooks.example.com/celeriac/a",
        "https://hooks.example.com/cele\nriac/a",
        "https://hooks.example.com\\@evil.org/celeriac/a",
        "https://hooks.example.com\t/celeriac/a",
        "",
    ],
)
def test_any_other_url_is_refused(url: str) -> None:
    assert not is_allowed(url, ALLOWED)
    assert not is_allowed(url, ())


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example.com/celeriac/a",
        "https://hooks.example.com:443/celeriac/a",
        "https://HOOKS.example.com/celeriac/a",
        "https://@hooks.example.com/celeriac/a",
        "https://hooks.example.com:/celeriac/a",
        "https://hooks.example.com?1",
        "https://hooks.example.com#1",
    ],
)
def test_one_server_has_one_name_however_it_is_written(url: str) -> None:
    assert receiver_of(url) == "hooks.example.com"


def test_other_servers_have_other_names() -> None:
    assert receiver_of("http://127.0.0.1:9000/any") == "127.0.0.1:9000"
    assert receiver_of("https://hooks.example.com:80/") == "hooks.example.com:80"
    for url in ("", "nothing", "http://127.0.0.1:x/", "http://[::1/"):
        assert receiver_of(url) == url


def test_a_submit_names_the_setting_that_forbids_its_webhook() -> None:
    request = parse_request({"agent": "a", "webhook": "http://evil.org"})
    with pytest.raises(InvalidInput, match=r"webhooks\.allowed"):
        build_task(request, agent=AgentConfig(name="a"), defaults=Defaults())


def test_a_receiver_can_check_the_signature() -> None:
    task = Task(
        id="task-1",
        agent_name="a",
        status=TaskStatus.COMPLETED,
        result=TaskResult(task_id="task-1", content="done"),
    )
    body = webhook_body(task)
    sent_at = datetime(2026, 1, 1, tzinfo=UTC)
    headers = webhook_headers(task, body, secret=SECRET, sent_at=sent_at)
    message = json.loads(body)
    assert (message["type"], message["data"]["result"]["content"]) == (
        "task.completed",
        "done",
    )
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    digest = hmac.new(SECRET.encode(), signed, hashlib.sha256).digest()
    assert headers["webhook-signature"] == f"v1,{base64.b64encode(digest).decode()}"
    assert headers["webhook-id"] == "msg_task-1"


@pytest.mark.parametrize(
    ("secret", "key"),
    [("plain words", b"plain words"), ("whsec_cGxhaW4gd29yZHM=", b"plain words")],
)
def test_a_secret_is_read_as_libraries_of_standard_webhooks_read_it(
    secret: str, key: bytes
) -> None:
    assert signing_key(secret) == key


@pytest.mark.parametrize("secret", ["whsec_", "whsec_no base64", "whsec_abc"])
def test_a_secret_that_is_no_key_is_refused(secret: str) -> None:
    with pytest.raises(ValidationError, match="whsec_ must be the base64 of the key"):
        WebhookSettings(secret=SecretStr(secret))
