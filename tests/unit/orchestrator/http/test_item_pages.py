"""Pages of a conversation's items end by their count, or earlier by their size."""

from __future__ import annotations

import pytest

from conversations.message import Message, Role
from tests.unit.orchestrator.http.serving import serving

LARGE = "ä" * 100_000
"""In bytes twice as much."""


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_a_page_of_large_items_ends_earlier_and_the_next_goes_on(
    order: str,
) -> None:
    async with serving() as served:
        talks = served.orchestrator.conversations
        await talks.create(conversation_id="talk")
        said = [Message(role=Role.USER, content=f"{n} {LARGE}") for n in range(45)]
        for message in said:
            await talks.add_messages("talk", [message])
        seen: list[str] = []
        sizes, after, has_more = [], None, True
        while has_more:
            given = {
                "order": order,
                "limit": 100,
                **({"after": after} if after else {}),
            }
            answer = await served.client.get(
                "/v1/conversations/talk/items", params=given
            )
            page = answer.json()
            sizes.append(len(answer.content))
            seen += [each["content"][0]["text"].split()[0] for each in page["data"]]
            after, has_more = page["last_id"], page["has_more"]
    numbers = [str(n) for n in range(45)]
    assert seen == (numbers if order == "asc" else numbers[::-1])
    assert len(sizes) == 3
    assert max(sizes) < 5_000_000
