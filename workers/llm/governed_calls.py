"""How a run's calls begin and end: through a gate, within a budget, and paid for."""

from __future__ import annotations

from functools import partial
from itertools import count
from secrets import token_hex

from orchestrator.agent_config import AgentConfig
from orchestrator.budget import Amount, Spent
from orchestrator.dues import Admitted, Dues, Entry, Hold, Needs, Toll
from orchestrator.gate import Caller, CallOutcome, Departure, Wait
from orchestrator.task import Task, Usage
from workers.errors import LLMError
from workers.insistence import STORE_PATIENCE_SECONDS, Insistence
from workers.llm.allowance import Allowance, enlarged, exceeded, most_of
from workers.llm.calling import Passed
from workers.llm.endpoints import ServedEndpoint
from workers.llm.gatekeeper import Gatekeeper
from workers.llm.governed_call import Call, departure_after, dues_of

_FIRST_ANSWER_TOKENS = 256
"""Taken for an answer's length before one was seen."""
_ADMITTED = Admitted()
_NOTHING = Amount()


class CallRules:
    """What the calls of a process share: the gates, the budgets, the usual answers."""

    def __init__(
        self, gatekeeper: Gatekeeper, allowance: Allowance, toll: Toll
    ) -> None:
        self.gatekeeper = gatekeeper
        self.allowance = allowance
        self.toll = toll
        self._insist = Insistence(patience_seconds=STORE_PATIENCE_SECONDS)
        self._answer_tokens: dict[str, float] = {}
        process = token_hex(8)
        self.wishes = (f"{process}-{n}" for n in count())
        """A name for each, which no other process gives."""

    def answer_tokens(self, gate: str, most: int | None) -> int:
        """Return how long an answer is likely to be."""
        usual = self._answer_tokens.get(gate, _FIRST_ANSWER_TOKENS)
        return int(min(usual, most or usual))

    def learn(self, gate: str, usage: Usage) -> None:
        """Note how long an answer was."""
        usual = self._answer_tokens.get(gate, usage.output_tokens)
        self._answer_tokens[gate] = usual + (usage.output_tokens - usual) / 8

    async def pay(self, dues: Dues) -> None:
        """Pay; a store that refuses is asked again while the run goes on."""
        if not dues.are_none:
            await self._insist.see_to(partial(self.toll.pay, dues))

    def pay_meanwhile(self, dues: Dues) -> None:
        """Pay without waiting for it."""
        self._insist.meanwhile(partial(self.toll.pay, dues))

    async def take_back(self, needs: Needs) -> None:
        """Undo an admission of which nobody knows whether it was made, or will be."""
        await self._insist.see_to(partial(self.toll.take_back, needs))

    async def aclose(self) -> None:
        """Give what is under way a moment to end."""
        await self._insist.settle()
        await self.gatekeeper.aclose()


class GovernedCalls:
    """The calls of one run."""

    def __init__(
        self, rules: CallRules, *, task: Task, config: AgentConfig, may_park: bool
    ) -> None:
        self._rules = rules
        self._task = task
        self._may_park = may_park
        self._accounts = rules.allowance.accounts(task, config)
        self._bounds = self._accounts
        self.budget_times = 1
        """How often each budget may be spent."""
        self._waited_seconds = 0.0
        """At gates, since the last completion."""

    def allow_budget(self, times: int) -> None:
        self.budget_times = times
        self._bounds = tuple(enlarged(each, times) for each in self._accounts)

    def asks_at_once(self, endpoint: ServedEndpoint, model: str) -> bool:
        """Whether nothing stands before a call, as it seems."""
        gate = endpoint.gate_of(model)
        return not self._bounds and self._rules.gatekeeper.is_open(endpoint, gate)

    async def begin(self, call: Call) -> Passed:
        endpoint = call.choice.endpoint
        gate = endpoint.gate_of(call.choice.model)
        is_open = self._rules.gatekeeper.is_open(endpoint, gate)
        if is_open and not self._bounds:
            return Passed(gate, _ADMITTED)
        token = next(self._rules.wishes)  # a repeat with it takes nothing more
        entry = None if is_open else self._entry(call, gate, token)
        needs = Needs(entry, self._hold(call, token) if self._bounds else None)
        ask = partial(self._asked, call, needs)
        try:
            admitted, waited = await self._rules.gatekeeper.enter(
                endpoint, ask, token=token, may_park=self._may_park
            )
        except BaseException:
            # Its place is empty, and what is granted by an answer that did not arrive,
            # or is still to come, is nobody's.
            await self._rules.take_back(needs)
            raise
        self._waited_seconds += waited
        return Passed(gate, admitted)

    async def end(
        self, call: Call, passed: Passed, error: BaseException | None, *, owes: bool
    ) -> None:
        if call.completion is not None:  # be it that it will not do
            departure = self._taken(call, passed.gate)
        elif isinstance(error, LLMError):
            call.lost_usage = error.usage
            departure = departure_after(error)
        else:
            tokens = None if call.was_asked else 0
            departure = Departure(outcome=CallOutcome.UNKNOWN, tokens=tokens)
        permit, reservation = passed.admitted
        dues = dues_of(call, permit, departure, reservation)
        await self._rules.gatekeeper.leave(passed.gate, permit, departure)
        if owes and error is None and call.completion is not None:
            call.answered = call.answer(call.completion, dues)
        else:
            await self._rules.pay(dues)

    async def _asked(self, call: Call, needs: Needs) -> Admitted | Wait:
        """Ask with the start mark of the step, where it has one.

        Raises:
            BudgetExceeded: it does not fit into an account.
        """
        answer = await call.marking.admit(needs)
        if answer is None:
            answer = await self._rules.toll.admit(needs)
        if isinstance(answer, Spent):
            raise exceeded(answer, needs.hold.amount if needs.hold else _NOTHING)
        return answer

    def _entry(self, call: Call, gate: str, token: str) -> Entry:
        """Return how it passes its gate."""
        most = call.request.max_output_tokens
        caller = Caller(
            token=token,
            tenant=self._task.tenant,
            task_id=self._task.id,
            priority=self._task.priority,
            tokens=call.prompt_tokens + self._rules.answer_tokens(gate, most),
        )
        return Entry(gate, call.choice.endpoint.limits, caller)

    def _hold(self, call: Call, token: str) -> Hold:
        """Return the most that it may take."""
        output = call.request.max_output_tokens
        most = most_of(call.prompt_tokens, output, call.price)
        return Hold(self._task.tenant, token, self._bounds, most)

    def _taken(self, call: Call, gate: str) -> Departure:
        """Learn from an answer; say in it what it cost and how long it waited."""
        usage = call.usage()
        self._rules.learn(gate, usage)
        if call.completion is None:
            raise RuntimeError("a call that was taken has its completion")
        cost, waited = call.price.micros(usage), round(self._waited_seconds, 3)
        if cost or waited:
            facts = {"cost_micros": cost, "gate_wait_seconds": waited}
            call.completion = call.completion.model_copy(update=facts)
        self._waited_seconds = 0.0
        return Departure(
            outcome=CallOutcome.ANSWERED,
            tokens=usage.total_tokens,
            wait_seconds=call.completion.endpoint_wait_seconds,
        )
