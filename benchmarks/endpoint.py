"""A model endpoint that costs next to nothing and answers after a fixed time.

No model is called. `python -m benchmarks.endpoint` prints its port and serves until its
standard input closes. A prompt with tools is answered by a tool call until it holds two
results, so that an agent task takes three completions.
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import suppress

ANSWER_SECONDS = 0.2
TOOL_CALLS = 2
HEAD = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n"
USAGE = {"prompt_tokens": 200, "completion_tokens": 20, "total_tokens": 220}


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
        reply = answer(json.loads(body))
        loop = asyncio.get_running_loop()
        loop.call_later(ANSWER_SECONDS, self.send, reply)

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
