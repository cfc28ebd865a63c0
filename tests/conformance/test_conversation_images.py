"""Pictures are kept with their message, on every store."""

from __future__ import annotations

from conversations.image import Image
from conversations.store import ConversationStore
from tests.conformance.conversation_steps import created, user

SEEN = Image(url="data:image/png;base64,iVBORw0KGgo=", detail="high")


async def test_a_message_with_pictures_comes_back_as_it_was(
    store: ConversationStore,
) -> None:
    await created(store)
    await store.append("default", "talk", [user("What is this?", images=[SEEN])])
    [stored] = await store.read("default", "talk")
    assert stored.message.images == (SEEN,)
