"""The provider for every OpenAI-compatible endpoint: Chat Completions over HTTP.

Owns the HTTP client and the order of a call; bodies, streams and errors are read by
the modules beside it. Retries nothing but a connection that had gone stale and a
dialect that the endpoint refused.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from functools import partial

from pydantic import SecretStr

from conversations.json_value import dumps
from workers.errors import LLMError
from workers.llm.body import encoding_in, pieces_of
from workers.llm.call_clock import CallClock
from workers.llm.completion_parser import CompletionAccumulator
from workers.llm.endpoint import CallLimits, Endpoint
from workers.llm.endpoint_client import open_client
from workers.llm.error_mapping import (
    Failure,
    bare,
    error_from,
    read_failure,
)
from workers.llm.ollama import OLLAMA_FINGERPRINT, ollama_context
from workers.llm.provider import Completion, CompletionRequest, TextDelta
from workers.llm.request_body import Dialect, changes, chat_body
from workers.llm.sent import Sent
from workers.llm.stream import FOREIGN_ERRORS, Answer, Payload
from workers.llm.transport_errors import transport_error, went_stale

logger = logging.getLogger(__name__)

_ERROR_BYTES = 64 * 1024
"""Read of an error's body at most."""


class ChatCompletionsProvider:
    """Asks one endpoint; safe for any number of calls at once on one event loop."""

    def __init__(
        self,
        endpoint: Endpoint | str,
        *,
        model: str,
        api_key: SecretStr | None = None,
        limits: CallLimits | None = None,
        dialect: Dialect | None = None,
    ) -> None:
        """Make the provider; nothing is sent.

        Args:
            endpoint: Where it answers, or the address alone.
            model: The model of requests that name none.
            api_key: For an address alone; an `Endpoint` brings its own.
            limits: What one call may take.
            dialect: How it wants to be asked; what it refuses is learned.
        """
        if isinstance(endpoint, str):
            endpoint = Endpoint(base_url=endpoint, api_key=api_key)
        self._endpoint = endpoint
        self._model = model
        self._limits = limits or CallLimits()
        self._dialect = dialect or Dialect()
        self._dialects: dict[str, Dialect] = {}
        self._warned: set[str] = set()
        self._cleaned = "", ""
        self._is_ollama = False
        self._contexts: dict[str, int | None] = {}
        self._client = open_client(self._endpoint, self._limits)
        self._url = f"{self._endpoint.base_url}/chat/completions"

    def __repr__(self) -> str:
        return f"ChatCompletionsProvider({self.base_url!r}, model={self._model!r})"

    @property
    def base_url(self) -> str:
        """The endpoint's address."""
        return self._endpoint.base_url

    @property
    def model(self) -> str:
        """The model of requests that name none."""
        return self._model

    async def complete(self, request: CompletionRequest) -> Completion:
        answer = await self._answer(request, stream=False)
        try:
            accumulator = CompletionAccumulator(stop=request.stop)
            while payloads := await answer.payloads():
                self._take(payloads, accumulator, answer)
            return self._whole(accumulator, answer, request)
        except LLMError as exc:
            _drop_frames(exc)
            raise
        finally:
            await answer.aclose()

    async def stream(
        self, request: CompletionRequest
    ) -> AsyncGenerator[TextDelta | Completion]:
        answer = await self._answer(request, stream=True)
        try:
            accumulator = CompletionAccumulator(stop=request.stop)
            while payloads := await answer.payloads():
                self._take(payloads, accumulator, answer)
                del payloads  # errors of the next are reported with variables
                if delta := accumulator.added():
                    yield delta
                del delta
            completion = self._whole(accumulator, answer, request)
        except LLMError as exc:
            _drop_frames(exc)
            raise
        finally:
            await answer.aclose()
        if rest := accumulator.rest():
            yield rest
        yield completion

    async def context_tokens(self, model: str) -> int | None:
        """Return the context length of a model that Ollama has loaded; else None.

        Asked once for each model, after its first answer: it is loaded then.
        """
        if not self._is_ollama:
            return None
        if model not in self._contexts:
            self._contexts[model] = await ollama_context(
                self._client, self._endpoint, model
            )
        return self._contexts[model]

    async def aclose(self) -> None:
        await self._client.aclose()

    def _take(
        self,
        payloads: Sequence[Payload],
        accumulator: CompletionAccumulator,
        answer: Answer,
    ) -> None:
        for payload in payloads:
            accumulator.feed(payload)
        answer.may_end = accumulator.has_finish
        if payloads[0].get("system_fingerprint") == OLLAMA_FINGERPRINT:
            self._is_ollama = True

    def _whole(
        self,
        accumulator: CompletionAccumulator,
        answer: Answer,
        request: CompletionRequest,
    ) -> Completion:
        """Return the completion of an answer that was read to its end."""
        try:
            completion = accumulator.completion(ended=answer.ended, clean=self._clean)
        except LLMError as exc:
            exc.endpoint, exc.status, exc.body = self.base_url, 200, answer.kept
            raise
        if wait := answer.endpoint_wait_seconds:
            completion = completion.model_copy(update={"endpoint_wait_seconds": wait})
        self._note_model(completion.model, request.model or self._model)
        return completion

    def _clean(self, text: str) -> str:
        """Return the endpoint's words without secrets: as a rule its model's name."""
        if text != self._cleaned[0]:
            self._cleaned = text, self._endpoint.scrub(text)
        return self._cleaned[1]

    def _note_model(self, answered: str, asked: str) -> None:
        """Warn once: llama.cpp answers any name with what it has loaded."""
        if not answered or answered in self._warned or answered.startswith(asked):
            return
        self._warned.add(answered)
        logger.warning(
            "endpoint answers with another model",
            extra={"endpoint": self.base_url, "asked": asked, "answered": answered},
        )

    async def _answer(self, request: CompletionRequest, *, stream: bool) -> Answer:
        """Return the endpoint's answer, to be closed by the caller."""
        model = request.model or self._model
        total = request.timeout_seconds or self._limits.total_seconds
        clock = CallClock(self._endpoint, total_seconds=total)
        first_byte = self._limits.first_byte_seconds if stream else total
        while True:
            dialect = self._dialects.get(model, self._dialect)
            # By place: a thousand that wait each keep theirs, and names take room.
            write = partial(_streamed if stream else _whole, request, model, dialect)
            sent = await clock.bound(self._send(write), first_byte)
            if 200 <= sent.status < 300:
                return Answer(
                    sent,
                    endpoint=self._endpoint,
                    model=model,
                    limits=self._limits,
                    clock=clock,
                )
            async with aclosing(sent):
                failure = await clock.bound(self._read_error(sent), total)
            adapted = dialect.adapted_to(failure)
            if adapted is None:
                raise error_from(failure, endpoint=self._endpoint, model=model)
            logger.warning(
                "endpoint is asked in another way from now on",
                extra={
                    "endpoint": self.base_url,
                    "model": model,
                    **changes(dialect, adapted),
                },
            )
            self._dialects[model] = adapted

    async def _send(self, write: Callable[[], bytes]) -> Sent:
        """Send what is written now, and written once more where that was in vain.

        Nothing keeps the text while the model thinks: those of a thousand runs at once
        are the largest things that they have.
        """
        is_second = False
        try:
            try:
                return await self._client.post_json(self._url, write)
            except FOREIGN_ERRORS as exc:
                if not went_stale(exc):
                    raise
            # Other idle connections may be as dead: a client of its own.
            is_second = True
            return await self._send_afresh(write)
        except FOREIGN_ERRORS as exc:
            error = transport_error(exc, endpoint=self._endpoint)
            error.was_sent |= is_second
            cause = bare(exc, endpoint=self._endpoint)
        # Raised out there, without a context: what was caught, and its frames, hold the
        # headers, for whoever reports errors with variables.
        raise error from cause

    async def _send_afresh(self, write: Callable[[], bytes]) -> Sent:
        fresh = self._client.without_connections()
        try:
            sent = await fresh.post_json(self._url, write)
        except BaseException:
            await fresh.aclose()
            raise
        sent.close_client = fresh.aclose
        return sent

    async def _read_error(self, sent: Sent) -> Failure:
        """Read an error's body; what it repeats of our secrets is gone at once."""
        raw = b""
        try:
            chunks = sent.body.iter_chunked(_ERROR_BYTES)
            async for chunk in pieces_of(chunks, encoding_in(sent.headers)):
                raw += chunk
                if len(raw) >= _ERROR_BYTES:
                    break
        except FOREIGN_ERRORS:
            pass  # what came of it will do
        is_cut = not sent.body.at_eof()
        text = self._endpoint.scrub(raw.decode("utf-8", "replace"), is_cut=is_cut)
        return read_failure(sent.status, text, headers=sent.headers)


def _drop_frames(error: LLMError) -> None:
    """Forget where an answer was read: frames hold it, and are reported with variables.

    That of the caller too: a bare `raise` in it adds none.
    """
    error.__traceback__ = None


def _whole(request: CompletionRequest, model: str, dialect: Dialect) -> bytes:
    body = chat_body(request, model=model, dialect=dialect, stream=False)
    return dumps(body).encode()


def _streamed(request: CompletionRequest, model: str, dialect: Dialect) -> bytes:
    body = chat_body(request, model=model, dialect=dialect, stream=True)
    return dumps(body).encode()
