"""What the probe advises, by what a server tells."""

from __future__ import annotations

import pytest

from workers.llm.server_facts import ServerFacts, advice


@pytest.mark.parametrize(
    ("facts", "in_flight", "lines"),
    [
        (ServerFacts(), None, []),
        (ServerFacts(kind="ollama", context_tokens=65_536, tools=True), 1, []),
        (
            ServerFacts(kind="ollama", context_tokens=4096),
            1,
            ["OLLAMA_CONTEXT_LENGTH=65536 ollama serve"],
        ),
        (ServerFacts(kind="ollama"), None, ["OLLAMA_NUM_PARALLEL"]),
        (ServerFacts(kind="llama.cpp", parallel=4), None, ["limits.in_flight: 4"]),
        (ServerFacts(kind="llama.cpp", parallel=4), 9, ["limits.in_flight: 4"]),
        (ServerFacts(kind="llama.cpp", parallel=4), 4, []),
        (
            ServerFacts(kind="llama.cpp", context_tokens=512),
            4,
            ["llama-server -np 1 --ctx-size 65536"],
        ),
        (
            ServerFacts(kind="llama.cpp", context_tokens=8192, parallel=4),
            4,
            ["llama-server -np 4 --ctx-size 262144"],
        ),
        (ServerFacts(kind="vllm", context_tokens=512), 4, ["--max-model-len 65536"]),
        (ServerFacts(tools=False), 4, ["cannot call tools"]),
    ],
)
def test_each_thing_to_change_has_one_line(
    facts: ServerFacts, in_flight: int | None, lines: list[str]
):
    given = advice(facts, model="m", in_flight=in_flight)
    assert len(given) == len(lines)
    for line, words in zip(given, lines, strict=True):
        assert words in line
