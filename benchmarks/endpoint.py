"""A model endpoint that costs next to nothing and answers after a fixed time.

No model is called. `python -m benchmarks.endpoint` prints its port and serves until its
standard input closes. A prompt with tools is answered by a tool call until it has two
results, so an agent task takes three completions. The model `tokens` takes time for
each token; the first one that it streams is the instant of its sending.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from contextlib import suppress

ANSWER_SECONDS = 0.2
TOKENS = 200
TOKEN_SECONDS = 0.01
"""Between two tokens of the model `tokens`, which streams when it is asked to."""
TOOL_CALLS = 2
HEAD = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n"
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
SPREAD_SECONDS = 0.5
"""First tokens do not all come at one instant."""
USAGE = {"prompt_tokens": 200, "completion_tokens": 20, "total_tokens": 220}


def chunk(text: str, *, last: bool = False) -> bytes:
    choice = {"index": 0, "delta": {"content": text}}
    choice |= {"finish_reason": "stop" if last else None}
    facts = {"id": "x", "object": "chat.completion.chunk", "created": 0}
    data = json.dumps({**facts, "model": "tokens", "choices": [choice]})
    event = f"data: {data}\n\n" + ("data: [DONE]\n\n" if last else "")
    end = "0\r\n\r\n" if last else ""
    return (f"{len(event):x}\r\n{event}\r\n" + end).encode()


def answer(request: dict[str, object]) -> bytes:
    messages = request["messages"]
    assert isinstance(messages, list)
    asked = max(i for i, m in enumerate(messages) if m["role"] == "user")
    results = sum(message["role"] == "tool" for message in messages[asked:])
    message: dict[str, object] = {"role": "assistant", "content": "It is fine. " * 20}
    if request.get("tools") and results < TOOL_CALLS:
        function = {"name": "lookup", "arguments": '{"place": "paris"}'}
        call = {"id": f"call_{results}", "type": "function", "function": function}
        message |= {"content": None, "tool_calls": [call]}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    reply = {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": request.get("model", "scripted"),
        "choices": [choice],
        "usage": USAGE,
    }
    body = json.dumps(reply)
    return (HEAD.format(len(body)) + body).encode()


class Connection(asyncio.Protocol):
    """One client's connection; requests come one at a time."""

    def __init__(self) -> None:
        self.got = bytearray()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.got += data
        head, found, body = bytes(self.got).partition(b"\r\n\r\n")
        if not found:
            return
        length = 0
        for line in head.split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        if len(body) < length:
            return
        self.got.clear()
        request = json.loads(body)
        loop = asyncio.get_running_loop()
        if request.get("model") != "tokens":
            loop.call_later(ANSWER_SECONDS, self.send, answer(request))
        elif request.get("stream"):
            self.send(STREAM_HEAD)
            begins = ANSWER_SECONDS + random.uniform(0, SPREAD_SECONDS)  # noqa: S311
            loop.call_later(begins, self.stream, TOKENS)
        else:
            seconds = ANSWER_SECONDS + TOKENS * TOKEN_SECONDS
            loop.call_later(seconds, self.send, answer(request))

    def stream(self, left: int) -> None:
        text = f"{time.time():.6f} " if left == TOKENS else "word "
        self.send(chunk(text, last=left == 1))
        if left > 1:
            asyncio.get_running_loop().call_later(TOKEN_SECONDS, self.stream, left - 1)

    def send(self, reply: bytes) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(reply)


async def main() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Connection, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main())
