"""The demo's model quotes: every sentence it says stands in what it was given."""

from __future__ import annotations

import pytest

from conversations.json_value import JsonObject
from workers.llm.demo_script import demo_reply
from workers.llm.extracts import find_extracts
from workers.llm.reply import Reply

QUESTION = "How is a lost task found again?"
TOOLS = ["search_documents", "read_document", "list_documents"]
FOUND = """\
[docs/recovery.md: lines 10-14, section "Recovery"]
docs/recovery.md:10: ## Recovery
docs/recovery.md:12: A lost task is found by the sweeper, which rings again. The
docs/recovery.md:13: broker may lose every message. No task is ever lost for good.
docs/recovery.md:14: - Each sweep costs one script.

[notes.txt: lines 1-1]
notes.txt:1: Bananas are yellow and rich in potassium."""


def ask(*messages: JsonObject, tools: list[str] | None = None) -> Reply:
    names = TOOLS if tools is None else tools
    functions: list[JsonObject] = [{"function": {"name": name}} for name in names]
    return demo_reply(
        {"model": "gpt-oss:20b", "messages": list(messages), "tools": list(functions)}
    )


def user(text: str) -> JsonObject:
    return {"role": "user", "content": text}


def called(*names: str) -> JsonObject:
    calls: list[JsonObject] = [{"function": {"name": name}} for name in names]
    return {"role": "assistant", "content": "", "tool_calls": list(calls)}


def result(text: str) -> JsonObject:
    return {"role": "tool", "tool_call_id": "c", "content": text}


@pytest.mark.parametrize(
    "prompt",
    [
        QUESTION,
        f'{{"query": "{QUESTION}", "documents": ["docs/"]}}',
        f"Question: {QUESTION}\n\nDocuments: docs/",
    ],
)
def test_it_searches_first_with_the_words_of_the_question(prompt: str):
    calls = ask(user(prompt)).tool_calls
    assert {call.name for call in calls} == {"search_documents"}
    assert calls[0].arguments == {"query": "lost task found again"}


def test_it_then_reads_around_the_best_hit():
    [call] = ask(user(QUESTION), called("search_documents"), result(FOUND)).tool_calls
    assert call.name == "read_document"
    assert isinstance(call.arguments, dict)
    assert call.arguments["path"] == "docs/recovery.md"
    assert call.arguments["start_line"] == 7


def test_it_answers_with_copied_sentences_and_their_places():
    reply = ask(
        user(QUESTION),
        called("search_documents"),
        result(FOUND),
        called("read_document"),
        result(FOUND),
    )
    lines = reply.text.splitlines()
    assert lines[0] == (
        "A lost task is found by the sweeper, which rings again. [docs/recovery.md:12]"
    )
    assert "Bananas" not in reply.text
    assert not reply.tool_calls


def test_the_same_request_gets_the_same_answer():
    messages = (user(QUESTION), called(*TOOLS), result(FOUND))
    assert ask(*messages).text == ask(*messages).text


def test_a_sentence_over_two_lines_cites_both():
    texts = {extract.text: extract.place for extract in find_extracts(FOUND)}
    assert texts["The broker may lose every message."] == "[docs/recovery.md:12-13]"
    assert texts["Each sweep costs one script."] == "[docs/recovery.md:14]"
    assert "## Recovery" not in texts


def test_code_and_tables_are_no_sentences():
    lines = ["```", "This is some code here.", "```", "| a b c d. |"]
    text = "\n".join(f"a.md:{number}: {line}" for number, line in enumerate(lines, 1))
    assert find_extracts(text) == []


def test_results_of_an_earlier_turn_are_no_results_of_this_one():
    earlier = [user("old"), called(*TOOLS), result(FOUND)]
    answer: JsonObject = {"role": "assistant", "content": "old answer"}
    assert ask(*earlier, answer, user(QUESTION)).tool_calls


def test_without_a_fitting_sentence_it_says_so():
    reply = ask(user("Who won the chess game?"), called(*TOOLS), result(FOUND))
    assert "found no sentence" in reply.text
    assert "no model was called" in reply.text


def test_it_summarises_numbered_lines_in_their_own_words():
    system: JsonObject = {"role": "system", "content": "You summarise documents."}
    reply = ask(system, user(f"docs/recovery.md:\n\n{FOUND}"), tools=[])
    known = {str(extract) for extract in find_extracts(FOUND)}
    assert reply.text
    assert set(reply.text.splitlines()) <= known


def test_it_combines_summaries_and_keeps_their_citations():
    system: JsonObject = {"role": "system", "content": "You summarise documents."}
    parts = (
        "Make one summary of them:\n\n[lines 1-9]\n"
        "A lost task is found by the sweeper. [docs/recovery.md:12]\n"
        "The broker may lose every message. [docs/recovery.md:12-13]\n\n"
        "[lines 10-20]\nA sweep of the broker costs one script. [docs/recovery.md:14]"
    )
    reply = ask(system, user(parts), tools=[])
    assert reply.text.splitlines() == [
        "A lost task is found by the sweeper. [docs/recovery.md:12]",
        "The broker may lose every message. [docs/recovery.md:12-13]",
        "A sweep of the broker costs one script. [docs/recovery.md:14]",
    ]


def test_it_summarises_plain_text():
    text = (
        "Celery runs tasks in workers. Redis keeps the tasks. Nothing else is needed."
    )
    reply = ask(user(f"Please summarise this:\n{text}"), tools=[])
    assert all(line in text for line in reply.text.splitlines()[1:])


def test_without_documents_it_says_what_it_is():
    assert "no model was called" in ask(user("Hello!"), tools=[]).text


@pytest.mark.parametrize(
    "body", [{}, {"messages": 3, "tools": 4}, {"messages": [None]}]
)
def test_a_request_of_any_shape_gets_a_reply(body: JsonObject):
    assert demo_reply(body).text
