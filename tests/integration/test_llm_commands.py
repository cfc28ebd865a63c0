"""The probe, and the double as a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import SecretStr

from tests.integration.llm_serving import (
    ASKED,
    KEY,
)
from workers.errors import LLMUnavailable
from workers.llm.chat_completions import ChatCompletionsProvider
from workers.llm.double import Double
from workers.llm.endpoint import Endpoint
from workers.llm.probe import EndpointReport, ask_for_tool_call, probe


async def test_the_probe_knows_the_double():
    async with Double() as double:
        report = await probe(Endpoint(base_url=double.url), model="gpt-oss:20b")
    assert report.usable
    assert report.is_double
    assert report.model_present
    assert report.exit_code == 0


async def test_the_probe_of_nothing_names_the_remedy(unused_tcp_port: int):
    endpoint = Endpoint(base_url=f"http://localhost:{unused_tcp_port}/v1")
    report = await probe(endpoint, model="m")
    assert report.exit_code == 69
    assert "`ollama serve`" in report.remedy


@asynccontextmanager
async def double_process(*arguments: str) -> AsyncIterator[tuple[str, Any]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "workers.llm.double", "--exit-with-parent", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30):
            line = await process.stdout.readline()
        yield json.loads(line)["url"], process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_the_double_runs_alone_and_reports_unused_replies(tmp_path: Path):
    script = tmp_path / "script.yaml"
    script.write_text("- hello\n- {status: 503, text: busy}\n- never\n")
    async with double_process("--script", str(script)) as (url, process):
        provider = ChatCompletionsProvider(url, model="m")
        assert (await provider.complete(ASKED)).message.content == "hello"
        with pytest.raises(LLMUnavailable, match="busy"):
            await provider.complete(ASKED)
        await provider.aclose()
        process.send_signal(signal.SIGTERM)
        _, errors = await process.communicate()
        assert process.returncode == 0
        assert errors == b"1 scripted replies were not used\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--port", "99999999"), "must be 0 to 65535"),
        (("--script", "/nonexistent"), "/nonexistent cannot be read (No such file"),
        (("--script", "SCRIPT"), "reply 1 cannot be used"),
        (("--port", "BUSY"), "cannot be used (Address already in use); choose"),
    ],
)
async def test_the_double_says_in_a_sentence_why_it_cannot_serve(
    arguments: tuple[str, str], said: str, tmp_path: Path
):
    script = tmp_path / "script.yaml"
    script.write_text("- hello\n- {statuss: 503}\n")
    async with Double() as busy:
        port = busy.url.rpartition(":")[2].partition("/")[0]
        names = {"SCRIPT": str(script), "BUSY": port}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "workers.llm.double"),
            *(names.get(word, word) for word in arguments),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        _, errors = await process.communicate()
    assert process.returncode == 2
    assert said in errors.decode()
    assert "Traceback" not in errors.decode()


async def test_the_probe_command_prints_its_report_as_json():
    async with Double() as double:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "workers.llm.probe", "--json", "--base-url", double.url),
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "OPENAI_API_KEY": KEY},
        )
        output, _ = await process.communicate()
    assert process.returncode == 0
    report = EndpointReport.model_validate_json(output)
    assert report.kind == "double"
    assert KEY.encode() not in output


PARENT = """
import subprocess, sys
subprocess.Popen([sys.executable, "-m", "workers.llm.double", "--exit-with-parent"])
sys.stdin.readline()
"""


async def test_the_double_ends_with_its_parent():
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PARENT),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert parent.stdin is not None
    assert parent.stdout is not None
    async with asyncio.timeout(30):
        assert b"url" in await parent.stdout.readline()
        parent.kill()
        # The double holds the pipe open for as long as it lives.
        assert await parent.stdout.read() == b""
        await parent.wait()


@asynccontextmanager
async def answering(answers: dict[str, tuple[int, object]]) -> AsyncIterator[Endpoint]:
    """Serve JSON by path; what is not named is not found."""

    async def answer(request: web.Request) -> web.Response:
        status, body = answers.get(request.path, (404, {}))
        return web.json_response(body, status=status)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application, shutdown_timeout=0.5)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        yield Endpoint(base_url=f"http://127.0.0.1:{port}/v1", api_key=SecretStr(KEY))
    finally:
        await runner.cleanup()


def listing(*names: str, owned_by: str = "library") -> tuple[int, object]:
    models = [{"id": name, "owned_by": owned_by} for name in names]
    return 200, {"object": "list", "data": models}


async def test_the_probe_reads_the_context_of_a_loaded_ollama_model():
    loaded = {"models": [{"name": "m", "context_length": 4096}]}
    async with answering(
        {"/v1/models": listing("m", "n"), "/api/ps": (200, loaded)}
    ) as endpoint:
        report = await probe(endpoint, model="m")
    assert report.kind == "ollama"
    assert report.context_tokens == 4096
    assert report.models == ("m", "n")
    assert report.usable


async def test_the_probe_reads_what_llama_cpp_tells_of_its_slots():
    properties = {"total_slots": 2, "default_generation_settings": {"n_ctx": 2048}}
    answers = {"/v1/models": listing("m"), "/props": (200, properties)}
    async with answering(answers) as endpoint:
        report = await probe(endpoint, model="m")
    assert (report.kind, report.parallel, report.context_tokens) == (
        "llama.cpp",
        2,
        2048,
    )
    assert len(report.advice) == 2


async def test_the_probe_reads_what_ollama_tells_of_tools():
    answers = {
        "/v1/models": listing("m"),
        "/api/ps": (200, {"models": []}),
        "/api/show": (200, {"capabilities": ["completion"]}),
    }
    async with answering(answers) as endpoint:
        report = await probe(endpoint, model="m")
    assert report.tools is False
    assert any("cannot call tools" in line for line in report.advice)


@pytest.mark.parametrize(
    ("reply", "tools"),
    [
        ("no", False),
        ({"tool_calls": [{"name": "ping"}]}, True),
        ({"status": 400}, False),
    ],
)
async def test_the_probe_has_the_model_call_a_tool_when_asked_to(
    reply: Any, tools: bool
):
    async with Double([reply]) as double:
        provider = ChatCompletionsProvider(double.url, model="m")
        report = EndpointReport(base_url=double.url, model="m", usable=True)
        asked = await ask_for_tool_call(report, provider)
        await provider.aclose()
    assert asked.tools is tools
    assert bool(asked.advice) is not tools


async def test_the_probe_takes_a_tag_for_the_latest():
    async with answering({"/v1/models": listing("m:latest")}) as endpoint:
        assert (await probe(endpoint, model="m")).usable


async def test_the_probe_of_a_missing_model_names_the_setting():
    async with answering({"/v1/models": listing("other")}) as endpoint:
        report = await probe(endpoint, model="m")
    assert report.reachable
    assert report.exit_code == 78
    assert report.remedy == (
        f"{endpoint.base_url} has no model 'm'; set llm.model (CELERIAC_LLM__MODEL) to"
        " one that it has: other"
    )


async def test_the_probe_lists_some_of_many_models():
    many = listing(*(f"model-{number}" for number in range(400)))
    async with answering({"/v1/models": many}) as endpoint:
        report = await probe(endpoint, model="m")
    assert report.remedy.endswith("model-6, model-7 and 392 more")


async def test_llama_cpp_answers_with_what_it_has_loaded():
    models = listing("file.gguf", owned_by="llamacpp")
    async with answering({"/v1/models": models}) as endpoint:
        report = await probe(endpoint, model="m")
    assert report.kind == "llama.cpp"
    assert report.usable


async def test_a_llama_cpp_that_loads_one_of_several_models_must_have_it():
    models = [
        {"id": name, "owned_by": "llamacpp", "status": {"value": "unloaded"}}
        for name in ("tiny", "large")
    ]
    told = {"/v1/models": (200, {"object": "list", "data": models})}
    async with answering(told) as endpoint:
        report = await probe(endpoint, model="m")
        listed = await probe(endpoint, model="tiny")
    assert "set llm.model (CELERIAC_LLM__MODEL) to one that it has" in report.remedy
    assert not report.usable
    assert listed.usable


COMPLETIONS = "/v1/chat/completions"


async def test_an_endpoint_without_a_list_is_alive_when_it_refuses_an_empty_request():
    async with answering({COMPLETIONS: (400, {"error": {}})}) as endpoint:
        report = await probe(endpoint, model="m")
    assert report.usable
    assert report.model_present is None


@pytest.mark.parametrize(
    "answers",
    [
        {},
        {COMPLETIONS: (200, "<html>welcome</html>")},
        {"/v1/models": (200, "<html>welcome</html>")},
        {"/v1/models": (200, {"models": []})},
    ],
)
async def test_what_answers_and_is_no_endpoint_cannot_be_used(
    answers: dict[str, tuple[int, object]],
):
    async with answering(answers) as endpoint:
        report = await probe(endpoint, model="m")
    assert not report.usable
    assert report.exit_code == 78
    assert "set OPENAI_BASE_URL to an address ending in /v1" in report.remedy


@pytest.mark.parametrize("status", [401, 403])
async def test_a_key_that_is_refused_without_a_list_is_told(status: int):
    async with answering({COMPLETIONS: (status, {"error": {}})}) as endpoint:
        report = await probe(endpoint, model="m")
    assert not report.usable
    assert "OPENAI_API_KEY" in report.remedy


async def test_the_probe_of_a_refused_key_names_the_variable_not_the_key():
    error = {"error": {"message": f"bad key {KEY}"}}
    async with answering({"/v1/models": (401, error)}) as endpoint:
        report = await probe(endpoint, model="m")
    assert report.exit_code == 78
    assert "set OPENAI_API_KEY" in report.remedy
    assert KEY not in report.model_dump_json()


async def test_the_probe_gives_up_in_time():
    async def hang(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    endpoint = Endpoint(base_url=f"http://127.0.0.1:{port}/v1")
    report = await probe(endpoint, model="m", timeout_seconds=0.2)
    server.close()
    assert report.exit_code == 69
    assert "did not answer within 0.2 s" in report.remedy
