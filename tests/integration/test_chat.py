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
from tests.integration.test_cli import endpoint
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


def test_interrupts_end_the_turn_then_the_talk(stand: Stand) -> None:
    with endpoint(stand, [HttpReply(hang=True), "Here now."]) as double:
        stand.start_worker()
        ours, theirs = pty.openpty()
        process = celeriac(
            stand,
            "chat",
            "assistant",
            "-c",
            "talk",
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        os.set_blocking(ours, False)
        shown = b""

        def shows(text: bytes) -> bool:
            nonlocal shown
            with suppress(OSError):
                shown += os.read(ours, 65_536)
            return text in shown

        wait_until(lambda: shows(b"> "), 30)
        os.write(ours, b"Are you there?\n")
        wait_until(lambda: bool(double.requests), 30)
        process.send_signal(signal.SIGINT)
        wait_until(lambda: shows(b" cancelled]"), 20, lambda: repr(shown))
        os.write(ours, b"And now?\n")
        wait_until(lambda: shows(b"Here now."), 20, lambda: repr(shown))
        wait_until(lambda: shown.count(b"> ") >= 3 or shows(b"\0"), 20)
        process.send_signal(signal.SIGINT)
        wait_until(lambda: shows(b"continue with:"), 20, lambda: repr(shown))
        assert process.wait(20) == 0
        os.close(ours)


def test_a_conversation_goes_out_comes_back_is_forked_and_deleted(
    stand: Stand, tmp_path: Path
) -> None:
    with endpoint(stand, ["Hello Ada."]):
        stand.start_worker()
        run(stand, "chat", "assistant", "-c", "talk", text="I am Ada.")
    exported = tmp_path / "talk.jsonl"
    assert run(stand, "conversations", "export", "talk", "-o", str(exported))[0] == 0
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
