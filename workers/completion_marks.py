"""The start marks around requests to a model, and which may have been paid twice."""

from __future__ import annotations

from collections.abc import Awaitable
from types import TracebackType
from typing import Final

from orchestrator.dues import Admission, Needs
from orchestrator.journal import StepKind, StepStart
from workers.errors import LLMError
from workers.live_text import LiveText
from workers.llm.provider import Completion
from workers.llm.run_provider import Answered, Heard, RunProvider
from workers.none_yet import NONE
from workers.run import Run
from workers.run_log import RunLog
from workers.run_steps import completion_start

FIRST_COMPLETION: Final = StepStart(
    key="completion:1", kind=StepKind.COMPLETION, attempt=1
)
"""With which the tool loop begins."""


class CompletionMarks:
    """Marks a completion as begun for as long as nobody knows its outcome."""

    def __init__(self, run: Run, log: RunLog, llm: RunProvider) -> None:
        self._run = run
        self._log = log
        self.llm = llm
        """Who is asked."""
        self._open_calls = 0
        self._unanswered: frozenset[str] = NONE
        self.maybe_paid = 0
        """Completions asked for again whose first answer a crash hid."""

    def around(self, key: str, live: LiveText | None) -> Marked:
        """Return what encloses a request by a start mark."""
        return Marked(self, self._start(key), live)

    def note_answer(self, completion: Completion) -> None:
        """Note how many calls are to be made before the next completion."""
        self._open_calls = len(completion.message.tool_calls)

    def after_call(self, next_key: str) -> StepStart | None:
        """Note that a call has ended; return the completion that follows it at once.

        It is marked with the call's record, where nothing stands before it: no other
        call, gate or budget, and nothing that has asked the run to stop.
        """
        self._open_calls -= 1
        if self._open_calls or not (self._run.goes_on and self.llm.asks_at_once):
            return None
        return self._start(next_key)

    async def begin(self, start: StepStart, live: LiveText | None) -> Heard | None:
        if live is not None:
            live.again()
        started = await self._log.start(start)
        self.maybe_paid += started.is_unknown
        return live.hear if live and started.is_watched else None

    def admit(self, start: StepStart, needs: Needs) -> Awaitable[Admission | None]:
        return self._log.admit(start, needs)

    def _start(self, key: str) -> StepStart:
        return completion_start(key, attempt=self._run.task.attempt)

    async def fail(self, key: str, error: LLMError) -> None:
        if error.status is None and error.was_sent:
            self._unanswered |= {key}
        elif key not in self._unanswered:
            await self._log.drop_start(key)


class Marked:
    """The `Marking` of a request: a start mark and, when it is refused, its removal.

    Gives what is to hear the answer as it comes, where somebody watches. No generator,
    as `Keeping` is none: a run enters several for each completion.
    """

    def __init__(
        self, marks: CompletionMarks, start: StepStart, live: LiveText | None
    ) -> None:
        self._marks = marks
        self._start = start
        self._live = live

    def admit(self, needs: Needs) -> Awaitable[Admission | None]:
        """Mark the request along with what it needs; None where another meets that."""
        return self._marks.admit(self._start, needs)

    async def __aenter__(self) -> Heard | None:
        return await self._marks.begin(self._start, self._live)

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if isinstance(error, LLMError):
            await self._marks.fail(self._start.key, error)


class Keeping:
    """Encloses an answer's way into the journal; what does not arrive is paid."""

    def __init__(
        self, run: Run, llm: RunProvider, answered: Answered, live: LiveText | None
    ) -> None:
        self._run = run
        self._llm = llm
        self._answered = answered
        self._live = live

    async def __aenter__(self) -> None:
        self._run.begin_recording()

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._run.end_recording()
        if error is None:
            return
        self._llm.pay_now(self._answered)
        if self._live is not None:
            await self._live.leave()
