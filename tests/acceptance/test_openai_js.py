"""The official JavaScript client, unmodified; needs node and the client's package.

`npm ci --prefix tests/acceptance/js` makes it ready; without it this is skipped, for
the tests reach no registry by themselves.
"""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from conversations.message import Role, ToolCall
from tests.http_service import serving
from workers.errors import RequestRejected
from workers.llm.provider import Completion, CompletionRequest
from workers.llm.scripted import ScriptedAnswer

JS = Path(__file__).parent / "js"
NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(
    NODE is None or not (JS / "node_modules" / "openai-6").exists(),
    reason="needs node, and `npm ci --prefix tests/acceptance/js`",
)


def reply(request: CompletionRequest) -> ScriptedAnswer:
    last = request.messages[-1]
    if last.role is Role.TOOL:
        return f"It is {last.content}."
    if last.content == "fail":
        return RequestRejected("no", endpoint="http://127.0.0.1:9/v1", status=400)
    if request.tools:
        return [ToolCall(id="c1", name="add", arguments={"a": 1})]
    return "one two three"


@pytest.mark.timeout(120)
@pytest.mark.parametrize("package", ["openai", "openai-6"])
async def test_the_javascript_client_passes_its_checks(package: str) -> None:
    async with serving(reply, replicas=2) as service:
        answer = service.model.complete

        async def complete(request: CompletionRequest) -> Completion:
            if request.messages[-1].content == "hang":
                await asyncio.Event().wait()
            return await answer(request)

        service.model.complete = complete  # type: ignore[method-assign]
        process = await asyncio.create_subprocess_exec(
            str(NODE),
            str(JS / "client.mjs"),
            package,
            *service.urls,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        assert process.returncode == 0, output.decode()
        assert output.decode().endswith("ok\n")
