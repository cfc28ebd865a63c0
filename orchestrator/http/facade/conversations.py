"""`/v1/conversations` and their items: our stored histories."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from conversations.conversation import Conversation, is_hidden_id
from conversations.errors import ConversationNotFound, MessageNotFound
from conversations.json_value import NotStorable, check_identifier
from conversations.message import Message
from orchestrator.http.auth import Caller, Reader, Submitter
from orchestrator.http.dependencies import Celeriac, openai_problems
from orchestrator.http.facade.given import check_no_nuls
from orchestrator.http.facade.ids import new_conversation
from orchestrator.http.facade.item_reader import ItemReader
from orchestrator.http.facade.items import messages_of
from orchestrator.http.facade.paging import ItemPage, Paging
from orchestrator.http.facade.response_request import Metadata
from orchestrator.http.problem import Problem
from orchestrator.orchestrator import AsyncOrchestrator

router = APIRouter(prefix="/v1/conversations", tags=["openai"])

ConversationId = Annotated[
    str, Path(description="The conversation's id.", max_length=256)
]
ItemId = Annotated[str, Path(description="The item's id.", max_length=256)]
Items = Annotated[list[dict[str, JsonValue]], Field(max_length=20)]


class NewConversation(BaseModel):
    """A conversation to begin, with up to 20 items."""

    model_config = ConfigDict(extra="ignore")

    items: Items | None = None
    metadata: Metadata | None = None


class ConversationUpdate(BaseModel):
    """What to change."""

    model_config = ConfigDict(extra="ignore")

    metadata: Metadata | None = None


class NewItems(BaseModel):
    """Items to add at the end."""

    model_config = ConfigDict(extra="ignore")

    items: Annotated[Items, Field(min_length=1)]


class ConversationBody(BaseModel):
    """OpenAI's conversation object."""

    id: str
    object: Literal["conversation"] = "conversation"
    created_at: int
    metadata: dict[str, Any]

    @classmethod
    def of(cls, conversation: Conversation) -> ConversationBody:
        created = conversation.created_at
        return cls(
            id=conversation.id,
            created_at=int(created.timestamp()) if created else 0,
            metadata=conversation.metadata,
        )


class DeletedConversation(BaseModel):
    """A conversation that is no more."""

    id: str
    object: Literal["conversation.deleted"] = "conversation.deleted"
    deleted: Literal[True] = True


@router.post("", responses=openai_problems(409))
async def create_conversation(
    caller: Submitter, celeriac: Celeriac, body: NewConversation | None = None
) -> ConversationBody:
    """Begin a conversation."""
    given = body or NewConversation()
    check_no_nuls(given, besides="items")
    messages: tuple[Message, ...] = ()
    if given.items:
        messages = messages_of(given.items, param="items")
    conversation = await celeriac.conversations.create(
        conversation_id=new_conversation(),
        metadata=dict(given.metadata or {}),
        messages=messages,
        tenant=caller.tenant,
    )
    return ConversationBody.of(conversation)


@router.get("/{conversation_id}", responses=openai_problems(404))
async def get_conversation(
    conversation_id: ConversationId, caller: Reader, celeriac: Celeriac
) -> ConversationBody:
    """Return a conversation."""
    return ConversationBody.of(await _find(celeriac, conversation_id, caller))


@router.post("/{conversation_id}", responses=openai_problems(404))
async def update_conversation(
    conversation_id: ConversationId,
    body: ConversationUpdate,
    caller: Submitter,
    celeriac: Celeriac,
) -> ConversationBody:
    """Replace a conversation's metadata."""
    check_no_nuls(body, besides="")
    await _find(celeriac, conversation_id, caller)
    conversation = await celeriac.conversations.update_metadata(
        conversation_id, dict(body.metadata or {}), tenant=caller.tenant
    )
    return ConversationBody.of(conversation)


@router.delete("/{conversation_id}", responses=openai_problems(404))
async def delete_conversation(
    conversation_id: ConversationId, caller: Submitter, celeriac: Celeriac
) -> DeletedConversation:
    """Delete a conversation with its items; tasks go on and are kept."""
    found = await _head(celeriac, conversation_id, caller)
    hidden = is_hidden_id(conversation_id) if found is None else found.hidden
    # One whose first turn is under way has no head yet, and can be deleted.
    if hidden or not await _deleted(celeriac, conversation_id, caller):
        raise _not_found(conversation_id)
    return DeletedConversation(id=conversation_id)


@router.get("/{conversation_id}/items", responses=openai_problems(404))
async def list_items(
    conversation_id: ConversationId,
    caller: Reader,
    celeriac: Celeriac,
    paging: Annotated[Paging, Query()],
) -> ItemPage:
    """List a conversation's items, newest first by default."""
    await _find(celeriac, conversation_id, caller)
    return await _reader(celeriac, conversation_id, caller).page(paging)


@router.post("/{conversation_id}/items", responses=openai_problems(404, 409))
async def add_items(
    conversation_id: ConversationId,
    body: NewItems,
    caller: Submitter,
    celeriac: Celeriac,
) -> ItemPage:
    """Add items at the end; all or none."""
    await _find(celeriac, conversation_id, caller)
    stored = await celeriac.conversations.add_messages(
        conversation_id,
        messages_of(body.items, param="items"),
        tenant=caller.tenant,
    )
    reader = _reader(celeriac, conversation_id, caller)
    return ItemPage.of(await reader.of_messages(stored), has_more=False)


@router.get(
    "/{conversation_id}/items/{item_id}",
    responses=openai_problems(404),
)
async def get_item(
    conversation_id: ConversationId, item_id: ItemId, caller: Reader, celeriac: Celeriac
) -> dict[str, Any]:
    """Return one item."""
    await _find(celeriac, conversation_id, caller)
    reader = _reader(celeriac, conversation_id, caller)
    try:
        found = await reader.find(item_id)
    except MessageNotFound:
        found = None
    if found is None:
        raise _no_item(item_id)
    return found[0]


@router.delete("/{conversation_id}/items/{item_id}", responses=openai_problems(404))
async def delete_item(
    conversation_id: ConversationId,
    item_id: ItemId,
    caller: Submitter,
    celeriac: Celeriac,
) -> ConversationBody:
    """Delete an item for good; calls go together with their message and outputs."""
    await _find(celeriac, conversation_id, caller)
    reader = _reader(celeriac, conversation_id, caller)
    try:
        found = await reader.find(item_id)
        if found is None:
            raise _no_item(item_id)
        conversation = await celeriac.conversations.delete_message(
            conversation_id, found[1].seq, tenant=caller.tenant
        )
    except MessageNotFound:
        raise _no_item(item_id) from None
    return ConversationBody.of(conversation)


def _reader(
    celeriac: AsyncOrchestrator, conversation_id: str, caller: Caller
) -> ItemReader:
    return ItemReader(celeriac.conversations, conversation_id, tenant=caller.tenant)


async def _find(
    celeriac: AsyncOrchestrator, conversation_id: str, caller: Caller
) -> Conversation:
    """Return a conversation that a client may see; hidden ones are not found."""
    found = await _head(celeriac, conversation_id, caller)
    if found is None or found.hidden:
        raise _not_found(conversation_id)
    return found


async def _head(
    celeriac: AsyncOrchestrator, conversation_id: str, caller: Caller
) -> Conversation | None:
    try:
        return await celeriac.conversations.get(
            check_identifier(conversation_id), tenant=caller.tenant
        )
    except (ConversationNotFound, NotStorable):
        return None


async def _deleted(
    celeriac: AsyncOrchestrator, conversation_id: str, caller: Caller
) -> bool:
    try:
        return await celeriac.conversations.delete(
            check_identifier(conversation_id), tenant=caller.tenant
        )
    except NotStorable:
        return False


def _not_found(conversation_id: str) -> Problem:
    return Problem(
        404,
        "conversation_not_found",
        f"Conversation with id '{conversation_id[:80]}' not found.",
    )


def _no_item(item_id: str) -> Problem:
    return Problem(404, "not_found", f"Item with id '{item_id[:80]}' not found.")
