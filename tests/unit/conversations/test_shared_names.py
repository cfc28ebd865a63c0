"""Values of one form share the names of their fields, and nothing else."""

from __future__ import annotations

from conversations.message import Message, Role
from conversations.shared_names import sharing_names


def spoken(**fields: object) -> Message:
    return sharing_names(Message(role=Role.USER, content="hello", **fields))


def test_values_of_one_form_have_one_set_of_names():
    assert spoken().model_fields_set is spoken().model_fields_set
    assert spoken().model_fields_set == {"role", "content"}


def test_a_copy_changes_no_other_value():
    first, second = spoken(), spoken()

    pinned = first.model_copy(update={"pinned": True})

    assert pinned.model_fields_set == {"role", "content", "pinned"}
    assert second.model_fields_set == {"role", "content"}
    assert first == Message(role=Role.USER, content="hello")
