"""A service of conversations in memory."""

import pytest

from conversations import (
    StoredConversationService,
)
from conversations.memory_store import InMemoryConversationStore


@pytest.fixture
def service() -> StoredConversationService:
    return StoredConversationService(InMemoryConversationStore())
