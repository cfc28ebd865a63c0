"""What a conversation's turns do, as plain Python: the stores are held to it.

Says in a hundred lines what becomes of questions, answers and pieces of answers under
each rule and each ending. Knows no store, no time and no worker.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator.task import WhenBusy

NOTES = {
    "cancelled": "[This turn was cancelled before it ended.]",
    "failed": "[This turn failed before it ended.]",
}
Said = tuple[str, str]
"""Role and text of one message."""


@dataclass
class ModelTurn:
    """One accepted task."""

    question: str
    status: str = "pending"
    attempts: int = 0
    cancel_asked: bool = False
    rolled_back: bool = False
    said: list[str] = field(default_factory=list)
    saying: str = ""
    steered: list[str] = field(default_factory=list)
    inbox: list[ModelTurn] = field(default_factory=list)
    superseded: list[ModelTurn] = field(default_factory=list)

    def closing(self, ended: str) -> list[Said]:
        """What it leaves without an answer."""
        asked = [("user", text) for text in (self.question, *self.steered)]
        pieces = [*self.said, *([self.saying] if self.saying else [])]
        return [*asked, ("assistant", "\n\n".join([*pieces, NOTES[ended]]))]


class ModelTalk:
    """One conversation."""

    def __init__(self) -> None:
        self.history: list[Said] = []
        self.unfinished: list[ModelTurn] = []

    @property
    def running(self) -> ModelTurn | None:
        """The turn that a worker holds."""
        head = self.unfinished[0] if self.unfinished else None
        return head if head and head.status == "running" else None

    def submit(self, rule: WhenBusy, question: str) -> ModelTurn | None:
        """Accept a question; None when it is refused."""
        before = list(self.unfinished)
        if rule == "reject" and before:
            return None
        if rule == "interrupt" and before:
            before[0].superseded += before[1:]
        if rule in ("interrupt", "rollback"):
            for turn in reversed(before):
                turn.rolled_back = turn.rolled_back or rule == "rollback"
                self.cancel(turn)
        turn, running = ModelTurn(question), self.running
        if rule == "steer" and running and not running.cancel_asked:
            running.inbox.append(turn)
        self.unfinished.append(turn)
        return turn

    def claim(self) -> ModelTurn | None:
        """Begin the next turn; None when there is none to begin."""
        if self.running or not self.unfinished:
            return None
        turn = self.unfinished[0]
        turn.status, turn.attempts = "running", turn.attempts + 1
        return turn

    def say(self, turn: ModelTurn, text: str) -> None:
        """A completion is recorded."""
        turn.said.append(text)
        turn.saying = ""

    def take(self, turn: ModelTurn) -> list[str]:
        """Hand over what was sent to a run; those tasks are no more."""
        joining = [each for each in turn.inbox if each.status == "pending"]
        turn.inbox.clear()
        for each in joining:
            each.status = "joined"
            self.unfinished.remove(each)
        turn.steered += [each.question for each in joining]
        return [each.question for each in joining]

    def finish(self, turn: ModelTurn, answer: str) -> None:
        """A run has its answer."""
        if not turn.rolled_back:
            asked = [("user", text) for text in (turn.question, *turn.steered)]
            self.history += [*asked, ("assistant", answer)]
        self._leave(turn, "completed")

    def end(self, turn: ModelTurn, ended: str) -> None:
        """A turn ends without an answer."""
        is_next = self.unfinished[0] is turn
        if is_next and not turn.rolled_back:
            self.history += turn.closing(ended)
        self._leave(turn, ended)

    def cancel(self, turn: ModelTurn) -> None:
        """Somebody asks for the end of a turn."""
        if turn.status == "pending" and not turn.cancel_asked:
            self.end(turn, "cancelled")
        elif turn.status == "running":
            turn.cancel_asked = True

    def give_back(self, turn: ModelTurn) -> None:
        """A run stops before its end: its worker shuts down, or is gone."""
        if turn.cancel_asked:
            self.end(turn, "cancelled")
        else:
            turn.status = "pending"

    def _leave(self, turn: ModelTurn, status: str) -> None:
        turn.status = status
        if self.unfinished[0] is turn:
            for other in turn.superseded:
                self.history += ModelTurn(other.question).closing("cancelled")
        self.unfinished.remove(turn)
