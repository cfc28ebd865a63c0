"""What an endpoint's refusal becomes, for tests of its words and of its waits."""

from __future__ import annotations

import json

from pydantic import SecretStr

from workers.errors import (
    LLMError,
)
from workers.llm.endpoint import Endpoint
from workers.llm.error_mapping import (
    error_from,
    read_failure,
)

KEY = "sk-planted-canary"
REMOTE = Endpoint(base_url="https://api.example.com/v1", api_key=SecretStr(KEY))


def mapped(
    status: int,
    body: object = "",
    *,
    endpoint: Endpoint = REMOTE,
    headers: dict[str, str] | None = None,
) -> LLMError:
    raw = body if isinstance(body, str) else json.dumps(body)
    failure = read_failure(status, raw, headers=headers)
    return error_from(failure, endpoint=endpoint, model="gpt-x")
