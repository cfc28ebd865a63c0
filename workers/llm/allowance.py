"""What a run may still spend: its task's, its agent's and its tenant's budget.

Says which accounts a call belongs to; the accounts are the budget's affair.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import replace
from decimal import ROUND_FLOOR, Decimal
from functools import partial
from uuid import uuid4

from orchestrator.agent_config import AgentConfig
from orchestrator.budget import Account, Amount, Budget, Reservation, Spent
from orchestrator.budget_limits import SpendingLimits, TaskBudget
from orchestrator.errors import StoreUnavailable
from orchestrator.task import Task, Usage
from workers.errors import BudgetExceeded
from workers.insistence import STORE_PATIENCE_SECONDS, Insistence
from workers.llm.endpoints import Price

_MICROS = 1_000_000
_NO_BUDGET = TaskBudget()
_UNBOUNDED_ANSWER_TOKENS = 4096
"""Reserved for an answer whose length is not limited."""


_Reserve = Callable[[], Awaitable[Reservation | Spent]]
_LANES = 16
"""Calls of the budget at once; more wait here than the store has connections for."""


class Allowance:
    """Reserves and settles calls of this process."""

    def __init__(
        self,
        budget: Budget,
        *,
        tenants: Mapping[str, SpendingLimits],
        patience_seconds: float = STORE_PATIENCE_SECONDS,
    ) -> None:
        self._budget = budget
        self._insist = Insistence(patience_seconds=patience_seconds)
        self._tenants = tenants
        self._lanes = asyncio.Semaphore(_LANES)

    async def reserve(
        self,
        task: Task,
        config: AgentConfig,
        *,
        prompt_tokens: int,
        output_tokens: int | None,
        price: Price,
        times: int = 1,
    ) -> Reservation | None:
        """Reserve the most that a call may take; None where nothing bounds it.

        `times` is how often each budget may be spent for this task.

        Raises:
            BudgetExceeded: it does not fit into an account.
            StoreUnavailable: the store refuses, for longer than the patience.
        """
        accounts = tuple(self._accounts(task, config))
        if not accounts:
            return None
        accounts = tuple(_enlarged(account, times) for account in accounts)
        most = Usage(
            input_tokens=prompt_tokens,
            output_tokens=output_tokens or _UNBOUNDED_ANSWER_TOKENS,
        )
        amount = amount_of(most, price)
        token = uuid4().hex  # a repeat of a reservation that was made changes nothing

        async def reserved() -> Reservation | Spent:
            async with self._lanes:
                return await self._budget.reserve(task.tenant, token, accounts, amount)

        try:
            answer = await self._insist(reserved)
        except (asyncio.CancelledError, StoreUnavailable):
            await self._insist.see_to(partial(self._give_back, reserved))
            raise
        if isinstance(answer, Spent):
            raise _exceeded(answer, amount)
        return answer

    def bounds(self, task: Task, config: AgentConfig) -> bool:
        """Whether any account bounds a task's calls."""
        return next(self._accounts(task, config), None) is not None

    async def aclose(self) -> None:
        """Give what is under way a moment to end."""
        await self._insist.settle()

    async def _give_back(self, reserve: _Reserve) -> None:
        """Undo a reservation of which nobody knows whether it was made.

        A repeat with its token tells which it is.
        """
        made = await reserve()
        if isinstance(made, Reservation):
            await self._budget.settle(made, Amount())

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


def _enlarged(account: Account, times: int) -> Account:
    if times == 1:
        return account
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


def _exceeded(spent: Spent, wanted: Amount) -> BudgetExceeded:
    account = spent.account
    period = "today's" if account.daily else "the"
    return BudgetExceeded(
        f"{period} budget of {account.kind} {account.name!r} does not allow another"
        f" completion: {spent.amount.tokens} tokens and"
        f" {spent.amount.micros / _MICROS:.4f} of money are spent or reserved, and it"
        f" may take {wanted.tokens} tokens and {wanted.micros / _MICROS:.4f};"
        " raise the budget or lower max_output_tokens"
    )
