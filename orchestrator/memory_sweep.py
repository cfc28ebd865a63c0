"""One sweep over tasks in memory: leases, limits, doorbells, forgetting."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import timedelta

from orchestrator.events import EventType
from orchestrator.journal import Action, Decision, call_key
from orchestrator.memory_entry import Entry
from orchestrator.memory_ledger import MemoryLedger
from orchestrator.store import Doorbell, SweepReport
from orchestrator.store_limits import LONGEST_RESEND
from orchestrator.task import Task, TaskFailure, TaskStatus
from orchestrator.task_record import LAPSED_NOTE

Outcome = tuple[str, tuple[Doorbell, ...]]
_NOTHING: Outcome = ("nothing", ())


class MemorySweep:
    """Does what is overdue; runs under its caller's lock."""

    def __init__(
        self,
        ledger: MemoryLedger,
        *,
        forget: Callable[[Task], None],
        max_crashes: int,
        resend_seconds: float,
        result_ttl_seconds: float,
        delta_ttl_seconds: float,
    ) -> None:
        self._ledger = ledger
        self._forget = forget
        self._max_crashes = max_crashes
        self._resend_seconds = resend_seconds
        self._max_resend_seconds = resend_seconds * LONGEST_RESEND
        self._result_ttl = timedelta(seconds=result_ttl_seconds)
        self._delta_ttl = timedelta(seconds=delta_ttl_seconds)

    def run(self, *, limit: int) -> SweepReport:
        outcomes: list[Outcome] = []
        done: Counter[str] = Counter()
        looked: Counter[str] = Counter()
        for entry in list(self._ledger.entries.values()):
            kind = _kind(entry.task.status)
            if done[kind] < limit and self._is_overdue(entry):
                done[kind] += 1
                outcomes.append(self._settle(entry))
                looked[kind] += outcomes[-1] == _NOTHING
            elif done["deltas"] < limit and self._holds_old_deltas(entry):
                done["deltas"] += 1
                entry.drop_deltas()
        outcomes.append(("refilled", self._ledger.dispatch.refill_all()))
        counts = Counter(outcome for outcome, _ in outcomes)
        return SweepReport(
            doorbells=tuple(bell for _, bells in outcomes for bell in bells),
            recovered=counts["recovered"],
            ended=counts["ended"],
            rung_again=counts["rung_again"],
            more=any(
                amount == limit and 2 * looked[kind] < limit
                for kind, amount in done.items()
            ),
        )

    def _is_overdue(self, entry: Entry) -> bool:
        finished_at = entry.task.finished_at
        forget_at = finished_at + self._result_ttl if finished_at else None
        instants = (entry.lease_until, entry.look_at, forget_at)
        now = self._ledger.now
        return any(each is not None and each <= now for each in instants)

    def _holds_old_deltas(self, entry: Entry) -> bool:
        finished_at = entry.task.finished_at
        if not entry.holds_deltas or finished_at is None:
            return False
        return finished_at + self._delta_ttl <= self._ledger.now

    def _settle(self, entry: Entry) -> Outcome:
        if entry.task.status.is_terminal:
            del self._ledger.entries[entry.key]
            self._ledger.webhooks.pop(entry.key, None)
            self._forget(entry.task)
            return "forgotten", ()
        if entry.task.status is TaskStatus.RUNNING:
            return self._recover(entry)
        return self._ring(entry)

    def _recover(self, entry: Entry) -> Outcome:
        """Take back an expired lease: the run's worker has vanished."""
        task, ledger = entry.task, self._ledger
        if entry.lease_until is not None and entry.claimed_at is not None:
            held = (entry.lease_until - entry.claimed_at).total_seconds()
            entry.set(running_seconds=task.running_seconds + held)
        if task.cancel_requested_at is not None:
            return "ended", ledger.end(
                entry, TaskStatus.CANCELLED, {"status": "cancelled"}
            )
        charged, suspect, company = self._judge(entry)
        if charged:
            entry.set(crashes=task.crashes + 1)
        verdict = self._verdict(entry)
        if verdict is None:
            reason = "its worker vanished"
            ledger.counts.released(task, "lease_lost")
            bells = ledger.leave(entry)
            entry.move(TaskStatus.PENDING)
            entry.set(pending_reason=reason, suspect=suspect)
            entry.company, entry.resumes = company, True
            ledger.record(entry, EventType.TASK_RELEASED, reason=reason)
            return "recovered", (*bells, *ledger.make_due(entry, ledger.now))
        status, code, message = verdict
        failure = TaskFailure(code=code, message=message)
        ledger.count_run(entry, status, failure)
        return "ended", ledger.end_with_failure(entry, status, code, message)

    def _judge(self, entry: Entry) -> tuple[bool, bool, int]:
        """Who is to blame, see lua/recover.lua: charged, a suspect, in what company."""
        suspect, company = entry.task.suspect, entry.company
        if entry.surrendered == entry.task.attempt:
            blamed = entry.blamed == entry.task.attempt
            return blamed, suspect or blamed, 1 if blamed else company
        instant = entry.lease_until or self._ledger.now
        blame = self._ledger.dispatch.blame(entry, instant)
        if entry.key not in blame:
            return False, suspect or not blame, company
        alone = len(blame) == 1
        return alone, True, max(1, len(blame) // 8)

    def _verdict(self, entry: Entry) -> tuple[TaskStatus, str, str] | None:
        """How a task whose worker vanished ends, if it does."""
        task, ledger = entry.task, self._ledger
        limit = task.time_limit_seconds
        if entry.deadline_at is not None and entry.deadline_at <= ledger.now:
            return TaskStatus.TIMED_OUT, "deadline", _nobody_ended_it("deadline")
        if limit is not None and limit <= task.running_seconds:
            return TaskStatus.TIMED_OUT, "time_limit", _nobody_ended_it("time_limit")
        if task.crashes >= self._max_crashes:
            message = (
                f"it took its worker down {task.crashes} times;"
                " look for what kills the worker process, then submit again"
            )
            return TaskStatus.FAILED, "crash_loop", message
        return None

    def _ring(self, entry: Entry) -> Outcome:
        """Look at a due task: end it past a limit, ring when it may run now."""
        ledger, now = self._ledger, self._ledger.now
        reason = ledger.overdue(entry)
        if reason is not None:
            return "ended", ledger.end_with_failure(
                entry, TaskStatus.FAILED, "expired", reason
            )
        if entry.task.status is TaskStatus.WAITING:
            return self._lapse(entry)
        if entry.held or not ledger.is_next_turn(entry):
            entry.look_later(now + timedelta(seconds=self._max_resend_seconds))
            return _NOTHING
        if not ledger.dispatch.is_rung(entry):
            return "rung", ledger.dispatch.offer(entry)
        if not ledger.dispatch.doubts(entry):
            entry.look_later(now + timedelta(seconds=self._resend_seconds / 2))
            return _NOTHING
        entry.look_later(now + timedelta(seconds=self._resend_seconds))
        return "rung_again", (entry.doorbell,)

    def _lapse(self, entry: Entry) -> Outcome:
        """Refuse the awaited calls that nobody has decided on in time."""
        ledger = self._ledger
        bells: tuple[Doorbell, ...] = ()
        for call in entry.task.awaiting:
            if call.expires_at is not None and call.expires_at <= ledger.now:
                key = call_key(call.call_id)
                refusal = Decision(key=key, action=Action.REFUSE, note=LAPSED_NOTE)
                bells = ledger.decide(entry, refusal)
        if entry.task.status is TaskStatus.WAITING:
            entry.look_at = entry.next_limit
        return "rung", bells


def _kind(status: TaskStatus) -> str:
    """What a sweep does with such a task; each has its own limit, so none starves."""
    if status.is_terminal:
        return "forget"
    return "recover" if status is TaskStatus.RUNNING else "ring"


def _nobody_ended_it(limit: str) -> str:
    return (
        f"the {limit.replace('_', ' ')} passed and the worker vanished or its event"
        f" loop was blocked; raise {limit}"
    )
