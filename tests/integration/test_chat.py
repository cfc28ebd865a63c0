"""`celeriac chat` and `celeriac conversations` as programs, and the blocking talk."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from orchestrator import EventType, Orchestrator
from tests.integration.cli_stand import endpoint
from tests.stand import Stand, wait_until
from workers.llm.double_script import HttpReply

pytestmark = pytest.mark.timeout(120)


def celeriac(
    stand: Stand, *arguments: str, **options: object
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "orchestrator", *arguments],
        cwd=stand.directory,
        env=stand.variables(),
        **{"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, **options},
    )


def run(stand: Stand, *arguments: str, text: str = "") -> tuple[int, str]:
    process = celeriac(stand, *arguments, stderr=subprocess.STDOUT)
    out, _ = process.communicate(text.encode(), timeout=60)
    return process.returncode, out.decode()


def test_lines_from_a_pipe_are_a_talk_that_is_continued_by_its_id(
    stand: Stand,
) -> None:
    with endpoint(stand, ["Hello Ada.", "You are Ada.", "Still Ada."]):
        stand.start_worker()
        lines = "I am Ada.\n\nWho am I?"
        code, out = run(stand, "chat", "assistant", "-c", "talk", text=lines)
        assert code == 0, out
        assert out.index("Hello Ada.") < out.index("You are Ada.")
        assert "continue with: celeriac chat assistant --conversation talk" in out
        _, out = run(stand, "chat", "assistant", "-c", "talk", text="And now?\n")
        assert "conversation talk (4 messages)" in out
        assert "Still Ada." in out


class Terminal:
    """A talk in a terminal of its own."""

    def __init__(self, stand: Stand) -> None:
        self._ours, theirs = pty.openpty()
        ends = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
        self.process = celeriac(stand, "chat", "assistant", "-c", "talk", **ends)
        os.close(theirs)
        os.set_blocking(self._ours, False)
        self.shown = b""

    def type(self, line: str) -> None:
        os.write(self._ours, line.encode() + b"\n")

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def await_text(self, text: bytes, times: int = 1) -> None:
        def shows() -> bool:
            with suppress(OSError):
                self.shown += os.read(self._ours, 65_536)
            return self.shown.count(text) >= times

        wait_until(shows, 30, lambda: repr(self.shown))

    def end(self) -> None:
        self.interrupt()
        self.await_text(b"\r\ncontinue with:")
        assert self.process.wait(20) == 0
        os.close(self._ours)


def test_interrupts_end_the_turn_then_the_talk(stand: Stand) -> None:
    with endpoint(stand, [HttpReply(hang=True), "Here now."]) as double:
        stand.start_worker()
        terminal = Terminal(stand)
        terminal.await_text(b"> ")
        terminal.type("")  # asks nothing and ends nothing
        terminal.await_text(b"> ", times=2)
        terminal.type("Are you there?")
        wait_until(lambda: bool(double.requests), 30)
        terminal.interrupt()
        terminal.await_text(b" cancelled]")
        terminal.type("And now?")
        terminal.await_text(b"Here now.")
        terminal.await_text(b"> ", times=4)
        terminal.end()


DRIPPING = HttpReply(text="one two three four " * 50, drip_seconds=0.05)


def told(celeriac: Orchestrator, task_id: str) -> str:
    """What the viewers of a task have read."""
    events = celeriac.handle(task_id).events()
    return "".join(
        str(event.data["delta"])
        for event in events
        if event.type is EventType.TEXT_DELTA
    )


def test_what_was_said_before_an_interrupt_stays_and_the_next_turn_knows_it(
    stand: Stand,
) -> None:
    with endpoint(stand, [DRIPPING, "And five."]) as double:
        stand.start_worker()
        terminal = Terminal(stand)
        terminal.await_text(b"> ")
        terminal.type("Count")
        terminal.await_text(b"one two")
        terminal.interrupt()
        terminal.await_text(b" cancelled]")
        terminal.type("Go on")
        terminal.await_text(b"And five.")
        terminal.await_text(b"> ", times=3)
        terminal.end()
        with Orchestrator(stand.settings()) as celeriac:
            question, answer, *_ = celeriac.conversations.get_messages("talk")
            assert (question.seq, question.message.content) == (1, "Count")
            said, note = answer.message.content.split("\n\n")
            assert note == "[This turn was cancelled before it ended.]"
            assert said.startswith("one two")
            assert said == told(celeriac, str(answer.turn))
        prompt = [each["content"] for each in double.requests[-1].body["messages"]]
        assert prompt[-3:] == ["Count", answer.message.content, "Go on"]


@pytest.mark.parametrize(
    ("cause", "closed"), [("limit", "timed_out"), ("interrupt", "cancelled")]
)
def test_what_was_said_before_any_end_without_an_answer_stays(
    stand: Stand, cause: str, closed: str
) -> None:
    with endpoint(stand, [DRIPPING, "Here now."]):
        stand.start_worker()
        limit = 3 if cause == "limit" else None
        with Orchestrator(stand.settings()) as celeriac:
            chat = celeriac.chat("assistant", "talk")
            task = celeriac.submit(
                "assistant",
                {"prompt": "Count"},
                parameters={"stream": True},
                conversation_id="talk",
                time_limit=limit,
            )
            heard = (e for e in task.events() if e.type is EventType.TEXT_DELTA)
            assert str(next(heard).data["delta"]).startswith("one")
            rule = "enqueue" if limit else "interrupt"
            chat.send("And now?", timeout=60, when_busy=rule)
            stored = celeriac.conversations.get_messages("talk")
            assert stored[1].message.metadata == {"closed": closed}
            said, _note = stored[1].message.content.split("\n\n")
            assert said == told(celeriac, task.id)
            assert [each.message.content for each in stored[2:]] == [
                "And now?",
                "Here now.",
            ]


def test_a_second_interrupt_leaves_a_turn_whose_worker_does_not_answer(
    stand: Stand,
) -> None:
    with endpoint(stand, [HttpReply(hang=True)]) as double:
        worker = stand.start_worker()
        terminal = Terminal(stand)
        terminal.await_text(b"> ")
        terminal.type("Are you there?")
        wait_until(lambda: bool(double.requests), 30)
        worker.signal(signal.SIGSTOP)
        try:
            terminal.interrupt()
            terminal.await_text(b"the talk goes on]")
            terminal.interrupt()
            terminal.await_text(b"no longer watched")
            terminal.await_text(b"> ", times=2)
            terminal.end()
        finally:
            worker.signal(signal.SIGCONT)


def test_what_cannot_be_asked_is_said_and_does_not_end_the_talk(
    stand: Stand,
) -> None:
    with endpoint(stand, []):
        stand.start_worker()
        with Orchestrator(stand.settings()) as celeriac:
            celeriac.conversations.create(conversation_id="gone")
            celeriac.conversations.delete("gone")
        code, out = run(stand, "chat", "asistant", text="Hello")
        assert (code, "did you mean 'assistant'?" in out) == (2, True), out
        code, out = run(stand, "chat", "assistant", "-c", "gone", text="a\nb\n")
        assert out.count("celeriac: conversation 'gone' was not found") == 2, out
        assert "continue with:" in out
        assert code == 2, out


def test_a_conversation_goes_out_comes_back_is_forked_and_deleted(
    stand: Stand, tmp_path: Path
) -> None:
    with endpoint(stand, ["Hello Ada."]):
        stand.start_worker()
        run(stand, "chat", "assistant", "-c", "talk", text="I am Ada.")
    exported = tmp_path / "talk.jsonl"
    assert run(stand, "conversations", "export", "talk", "-o", str(exported))[0] == 0
    assert (
        run(stand, "conversations", "export", "talk", "-o", "/nowhere/at/all")[0] == 2
    )
    lines = exported.read_text().removesuffix("\n").split("\n")
    assert [bool(json.loads(line)) for line in lines] == [True] * 3
    arguments = ["import", str(exported), "--id", "copy"]
    assert run(stand, "conversations", *arguments) == (0, "copy\n")
    fork = ["fork", "copy", "--at", "1", "--id", "side"]
    assert run(stand, "conversations", *fork) == (0, "side\n")
    _, listed = run(stand, "conversations", "list")
    assert [line.split("\t")[:2] for line in listed.splitlines()] == [
        ["side", "1"],
        ["copy", "2"],
        ["talk", "2"],
    ]
    assert run(stand, "conversations", "delete", "copy")[0] == 0
    code, out = run(stand, "conversations", "delete", "copy")
    assert (code, "no conversation 'copy'" in out) == (2, True)
    code, out = run(stand, "conversations", "import", text="not json\n")
    assert (code, "line 1" in out) == (2, True)


HEAD = b'\xef\xbb\xbf{"id":"talk","config":{},"metadata":{}}\r\n'


def line_of(seq: int, text: bytes) -> bytes:
    said = b'{"role":"user","content":"%s","client_id":"%d"}' % (text, seq)
    at = b'"created_at":"2025-01-01T00:00:00Z"'
    return b'{"seq":%d,%s,"message":%s}\n' % (seq, at, said)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([line_of(1, b"\xff")], "line 2 is no UTF-8 text (byte"),
        ([line_of(1, b"a"), line_of(2, b"x" * 10_000_000)], "line 3 has 10000"),
    ],
    ids=["bytes", "size"],
)
def test_a_file_that_cannot_be_imported_is_refused_by_its_line(
    stand: Stand, lines: list[bytes], said: str, tmp_path: Path
) -> None:
    source = tmp_path / "talk.jsonl"
    source.write_bytes(HEAD + b"".join(lines))
    code, out = run(stand, "conversations", "import", str(source))
    assert (code, said in out) == (2, True), out
    assert len(out) < 300
    source.write_bytes(HEAD + line_of(1, b"a"))
    assert run(stand, "conversations", "import", str(source)) == (0, "talk\n")


def test_the_blocking_talk_streams(stand: Stand) -> None:
    with endpoint(stand, ["Hello Ada.", "Ada."]):
        stand.start_worker()
        with Orchestrator(stand.settings()) as celeriac:
            chat = celeriac.chat("assistant")
            assert chat.send("I am Ada.", timeout=20).content == "Hello Ada."
            events = list(chat.stream("Who am I?"))
            assert events[-1].type is EventType.TASK_COMPLETED
            stored = celeriac.conversations.get_messages(chat.conversation_id)
            assert len(stored) == 4
            lines = list(celeriac.conversations.export_lines(chat.conversation_id))
            assert len(lines) == 5
