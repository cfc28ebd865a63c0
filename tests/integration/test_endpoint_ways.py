"""The ways to an endpoint: through a proxy, and with certificates of one's own."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from traceback import TracebackException

import pytest
from pydantic import SecretStr

from tests.integration.llm_serving import ASKED
from workers.errors import (
    InvalidEndpoint,
    LLMError,
    LLMUnavailable,
    RequestRejected,
)
from workers.llm.chat_completions import ChatCompletionsProvider
from workers.llm.endpoint import Endpoint

BODY = b'{"choices":[{"message":{"content":"hi"}}]}'
ANSWER = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%s" % (len(BODY), BODY)
)


@asynccontextmanager
async def serving(
    context: ssl.SSLContext | None = None,
    *,
    answer: bytes | Callable[[], bytes] = ANSWER,
) -> AsyncIterator[tuple[int, list[bytes]]]:
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer() if callable(answer) else answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1], heads


async def asked(endpoint: Endpoint) -> str:
    provider = ChatCompletionsProvider(endpoint, model="m")
    try:
        return (await provider.complete(ASKED)).message.content
    finally:
        await provider.aclose()


async def test_a_proxy_of_the_environment_is_asked_with_its_login(
    monkeypatch: pytest.MonkeyPatch,
):
    async with serving() as (port, heads):
        for name in ("http_proxy", "HTTP_PROXY"):
            monkeypatch.setenv(name, f"http://user:word@127.0.0.1:{port}")
        assert await asked(Endpoint(base_url="http://llm.invalid/v1")) == "hi"
    assert heads[0].startswith(b"POST http://llm.invalid/v1/chat/completions ")
    assert b"\nproxy-authorization: basic dxnlcjp3b3jk" in heads[0].lower()


async def test_a_proxy_of_the_environment_opens_a_tunnel_with_its_login(
    monkeypatch: pytest.MonkeyPatch,
):
    async with serving() as (port, heads):
        for name in ("https_proxy", "HTTPS_PROXY"):
            monkeypatch.setenv(name, f"http://user:word@127.0.0.1:{port}")
        with pytest.raises(LLMUnavailable):  # no TLS behind this one
            await asked(Endpoint(base_url="https://llm.invalid/v1"))
    assert heads[0].startswith(b"CONNECT llm.invalid:443 ")
    assert b"\nproxy-authorization: basic dxnlcjp3b3jk" in heads[0].lower()


@pytest.mark.parametrize("proxy", ["ftp://me:pass@127.0.0.1", "http://me:pass@h:x"])
async def test_a_proxy_of_the_environment_that_is_none_is_refused_before_any_call(
    monkeypatch: pytest.MonkeyPatch, proxy: str
):
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, proxy)
    with pytest.raises(InvalidEndpoint, match="HTTP_PROXY") as caught:
        ChatCompletionsProvider(Endpoint(base_url="http://llm.invalid/v1"), model="m")
    assert "pass" not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("status", "expected", "told"),
    [
        (407, RequestRejected, "give the proxy's login"),
        (403, RequestRejected, "let this address pass"),
        (502, LLMUnavailable, "reached nobody"),
    ],
)
async def test_a_proxy_that_opens_no_tunnel_is_named(
    status: int, expected: type[LLMError], told: str
):
    refusal = b"HTTP/1.1 %d No\r\ncontent-length: 0\r\n\r\n" % status
    async with serving(answer=refusal) as (port, _):
        proxy = SecretStr(f"http://user:proxy-canary@127.0.0.1:{port}")
        with pytest.raises(expected, match=told) as caught:
            await asked(Endpoint(base_url="https://llm.invalid/v1", proxy=proxy))
    error = caught.value.with_traceback(caught.tb.tb_next)  # without this frame
    shown = TracebackException.from_exception(error, capture_locals=True)
    for secret in ("proxy-canary", b64encode(b"user:proxy-canary").decode()):
        assert secret not in "".join(shown.format())


async def test_a_configured_proxy_is_asked_with_its_login():
    async with serving() as (port, heads):
        proxy = SecretStr(f"http://user:proxy-canary@127.0.0.1:{port}")
        endpoint = Endpoint(base_url="http://llm.invalid/v1", proxy=proxy)
        assert await asked(endpoint) == "hi"
    assert heads[0].startswith(b"POST http://llm.invalid/v1/chat/completions ")
    assert b"\nproxy-authorization: basic " in heads[0].lower()
    assert "proxy-canary" not in repr(endpoint)
    assert endpoint.scrub("said proxy-canary") == "said [secret]"


async def test_what_went_in_vain_is_sent_again_without_reading_certificates_again(
    certificate: Path, tmp_path: Path
):
    """A server may end with a thousand calls aboard; each reading blocks the loop."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    copied = tmp_path / "authority.pem"
    copied.write_bytes(certificate.read_bytes())
    answers = [b"", ANSWER]
    async with serving(context, answer=lambda: answers.pop(0)) as (port, heads):
        endpoint = Endpoint(base_url=f"https://127.0.0.1:{port}/v1", ca_file=copied)
        provider = ChatCompletionsProvider(endpoint, model="m")
        copied.unlink()
        try:
            assert (await provider.complete(ASKED)).message.content == "hi"
        finally:
            await provider.aclose()
    assert len(heads) == 2


async def test_an_authority_of_ones_own_is_trusted_and_a_certificate_shown(
    certificate: Path,
):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certificate)
    context.load_cert_chain(certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    async with serving(context) as (port, _):
        endpoint = Endpoint(
            base_url=f"https://127.0.0.1:{port}/v1",
            ca_file=certificate,
            client_certificate=certificate,
        )
        assert await asked(endpoint) == "hi"


async def test_a_certificate_that_nobody_vouches_for_is_refused(certificate: Path):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    async with serving(context) as (port, _):
        with pytest.raises(RequestRejected, match="is not trusted"):
            await asked(Endpoint(base_url=f"https://127.0.0.1:{port}/v1"))


async def test_capitals_in_the_scheme_do_not_make_a_certificate_trusted(
    certificate: Path,
):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    async with serving(context) as (port, heads):
        url = f"HTTPS://127.0.0.1:{port}/v1"
        with pytest.raises(RequestRejected, match="is not trusted"):
            await asked(Endpoint(base_url=url, api_key=SecretStr("canary")))
        assert not heads
        assert await asked(Endpoint(base_url=url, ca_file=certificate)) == "hi"


async def test_the_certificate_of_a_proxy_is_checked_before_its_login_is_sent(
    certificate: Path,
):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    async with serving(context) as (port, heads):
        way = {
            "base_url": "http://llm.invalid/v1",
            "proxy": SecretStr(f"https://user:word@127.0.0.1:{port}"),
        }
        with pytest.raises(
            RequestRejected, match=r"of the proxy before .* not trusted"
        ):
            await asked(Endpoint(**way))
        assert not heads
        assert await asked(Endpoint(**way, ca_file=certificate)) == "hi"


@pytest.mark.parametrize(
    ("proxy", "told"),
    [
        (
            "http://127.0.0.1:9",
            "the proxy before http://llm.invalid/v1 does not answer",
        ),
        ("http://proxy.invalid", "the host name of the proxy before .* not resolve"),
    ],
)
async def test_a_proxy_that_is_not_there_is_named(proxy: str, told: str):
    with pytest.raises(LLMUnavailable, match=told):
        await asked(Endpoint(base_url="http://llm.invalid/v1", proxy=SecretStr(proxy)))


def test_a_key_with_a_passphrase_is_refused_and_asks_no_terminal(
    certificate: Path, tmp_path: Path
):
    locked, shown = tmp_path / "locked.pem", certificate.read_text()
    lock = ("rsa", "-aes128", "-passout", "pass:word", "-in", certificate)
    subprocess.run(
        [shutil.which("openssl"), *lock, "-out", locked],
        check=True,
        capture_output=True,
    )
    chain = shown[shown.index("-----BEGIN CERTIFICATE") :]
    locked.write_text(chain + locked.read_text())
    endpoint = Endpoint(base_url="https://llm.invalid/v1", client_certificate=locked)
    with pytest.raises(InvalidEndpoint, match="its key without a passphrase"):
        ChatCompletionsProvider(endpoint, model="m")


@pytest.mark.parametrize("field", ["ca_file", "client_certificate"])
def test_a_file_that_holds_no_certificate_is_named(tmp_path: Path, field: str):
    path = tmp_path / "empty.pem"
    path.write_text("nothing")
    endpoint = Endpoint(base_url="https://llm.invalid/v1", **{field: path})
    with pytest.raises(InvalidEndpoint, match=f"{field} .* readable PEM file"):
        ChatCompletionsProvider(endpoint, model="m")
