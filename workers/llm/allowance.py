"""How much a call may take of which budgets; pure, what is reserved is a `Toll`'s."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from decimal import ROUND_FLOOR, Decimal

from orchestrator.agent_config import AgentConfig
from orchestrator.budget import Account, Amount, Spent
from orchestrator.budget_limits import AgentBudget, SpendingLimits, TaskBudget
from orchestrator.task import Task, Usage
from workers.errors import BudgetExceeded
from workers.llm.endpoints import Price

_MICROS = 1_000_000
_NO_BUDGET = TaskBudget()
_UNBOUNDED_ANSWER_TOKENS = 4096
"""Reserved for an answer whose length is not limited."""


class Allowance:
    """The budgets of a task, its agent and its tenant."""

    def __init__(self, *, tenants: Mapping[str, SpendingLimits]) -> None:
        self._tenants = tenants

    def may_bound(self, config: AgentConfig) -> bool:
        """Whether calls of an agent are bounded for tasks that ask for no budget."""
        return bool(self._tenants) or config.budget != AgentBudget()

    def accounts(self, task: Task, config: AgentConfig) -> tuple[Account, ...]:
        """Return the accounts that bound a task's calls."""
        return tuple(self._accounts(task, config))

    def _accounts(self, task: Task, config: AgentConfig) -> Iterator[Account]:
        limits, tenant = config.budget, self._tenants.get(task.tenant)
        asked = task.budget or _NO_BUDGET
        tokens = _smaller(asked.tokens, limits.tokens)
        cost = _smaller(_micros(asked.cost), _micros(limits.cost))
        if tokens is not None or cost is not None:
            yield Account(kind="task", name=task.id, max_tokens=tokens, max_micros=cost)
        if limits.daily_tokens is not None or limits.daily_cost is not None:
            yield Account(
                kind="agent",
                name=config.name,
                daily=True,
                max_tokens=limits.daily_tokens,
                max_micros=_micros(limits.daily_cost),
            )
        if tenant is not None:
            yield Account(
                kind="tenant",
                name=task.tenant,
                daily=True,
                max_tokens=tenant.daily_tokens,
                max_micros=_micros(tenant.daily_cost),
            )


def most_of(prompt_tokens: int, output_tokens: int | None, price: Price) -> Amount:
    """Return the most that a call may take."""
    answer = output_tokens or _UNBOUNDED_ANSWER_TOKENS
    micros = price.micros_of(prompt_tokens, answer, cached=0)
    return Amount(prompt_tokens + answer, micros)


def enlarged(account: Account, times: int) -> Account:
    """Return an account that may be spent so often."""
    tokens, micros = account.max_tokens, account.max_micros
    return replace(
        account,
        max_tokens=None if tokens is None else tokens * times,
        max_micros=None if micros is None else micros * times,
    )


def amount_of(usage: Usage, price: Price) -> Amount:
    """Return what an account is charged."""
    return Amount(usage.total_tokens, price.micros(usage))


def _smaller(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


def _micros(cost: Decimal | None) -> int | None:
    if cost is None:
        return None
    return int((cost * _MICROS).to_integral_value(rounding=ROUND_FLOOR))


def exceeded(spent: Spent, wanted: Amount) -> BudgetExceeded:
    """Return the error of a call that does not fit."""
    account = spent.account
    period = "today's" if account.daily else "the"
    return BudgetExceeded(
        f"{period} budget of {account.kind} {account.name!r} does not allow another"
        f" completion: {spent.amount.tokens} tokens and"
        f" {spent.amount.micros / _MICROS:.4f} of money are spent or reserved, and it"
        f" may take {wanted.tokens} tokens and {wanted.micros / _MICROS:.4f};"
        " raise the budget or lower max_output_tokens"
    )
