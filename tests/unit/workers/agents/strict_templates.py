"""The rules by which the chat templates of well-known models refuse a prompt.

Each is written in the templates' own language, as they state it; what they print is
left out. `raise_exception` is what servers give a template to refuse with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2.sandbox import ImmutableSandboxedEnvironment

TAKES_TOOLS = {
    # Mistral: one system message, turns without calls and results, ids of nine.
    "mistral": """
{%- set talk = messages[1:] if messages[0].role == "system" else messages %}
{%- set ns = namespace(index=0) %}
{%- for message in talk %}
  {%- if message.role == "user" or (message.role == "assistant"
      and (message.tool_calls is not defined or message.tool_calls | length == 0)) %}
    {%- if (message.role == "user") != (ns.index % 2 == 0) %}
      {{- raise_exception("After the optional system message, conversation roles must"
          " alternate user and assistant roles except for tool calls and results.") }}
    {%- endif %}
    {%- set ns.index = ns.index + 1 %}
  {%- endif %}
{%- endfor %}
{%- for message in talk %}
  {%- if message.role not in ["user", "assistant", "tool"] %}
    {{- raise_exception("Only user, assistant and tool roles are supported, with the"
        " exception of an initial optional system message!") }}
  {%- endif %}
  {%- for call in message.tool_calls or [] if call.id | length != 9 %}
    {{- raise_exception("Tool call IDs should be alphanumeric strings"
        " with length 9!") }}
  {%- endfor %}
  {%- if message.role == "tool" and message.tool_call_id | length != 9 %}
    {{- raise_exception("Tool call IDs should be alphanumeric strings"
        " with length 9!") }}
  {%- endif %}
{%- endfor %}""",
    # Mistral's own server and its tokenizer: nobody asks right after a tool.
    "mistral server": """
{%- for message in messages %}
  {%- if not loop.first and loop.previtem.role == "tool" and message.role == "user" %}
    {{- raise_exception("Unexpected role 'user' after role 'tool'") }}
  {%- endif %}
  {%- if not loop.first and message.role == "system" %}
    {{- raise_exception("Unexpected role 'system' after role 'user'") }}
  {%- endif %}
{%- endfor %}""",
    # Qwen 3.5: system first, and a question somewhere.
    "qwen": """
{%- for message in messages[1:] if message.role == "system" %}
  {{- raise_exception("System message must be at the beginning.") }}
{%- endfor %}
{%- if messages | selectattr("role", "equalto", "user") | list | length == 0 %}
  {{- raise_exception("No user query found in messages.") }}
{%- endif %}""",
}
ALTERNATING = """
{%- for message in talk %}
  {%- if (message.role == "user") != (loop.index0 % 2 == 0) %}
    {{- raise_exception("Conversation roles must alternate"
        " user/assistant/user/assistant/...") }}
  {%- endif %}
{%- endfor %}"""
PLAIN = {
    # Llama 2, Gemma 3: no tools at all.
    "llama 2": """
{%- set talk = messages[1:] if messages[0].role == "system" else messages %}"""
    + ALTERNATING,
}
WITHOUT_SYSTEM = {
    # Gemma 1 and 2.
    "gemma": """
{%- if messages[0].role == "system" %}
  {{- raise_exception("System role not supported") }}
{%- endif %}
{%- set talk = messages %}"""
    + ALTERNATING,
}


class RefusedByTemplateError(Exception):
    """What a template says."""


def _refuse(text: str) -> None:
    raise RefusedByTemplateError(text)


_JINJA = ImmutableSandboxedEnvironment()
_COMPILED = {
    name: _JINJA.from_string(text)
    for name, text in {**TAKES_TOOLS, **PLAIN, **WITHOUT_SYSTEM}.items()
}


def render(name: str, messages: Sequence[Mapping[str, Any]]) -> None:
    """Raise RefusedByTemplateError where the template would."""
    _COMPILED[name].render(messages=messages, raise_exception=_refuse)


def check_strict(messages: Sequence[Mapping[str, Any]], *, system_role: bool) -> None:
    """Check a prompt with every template that takes such prompts at all."""
    names = [*TAKES_TOOLS]
    if not any(message["role"] == "tool" for message in messages):
        names += [*PLAIN] if system_role else [*PLAIN, *WITHOUT_SYSTEM]
    for name in names:
        render(name, messages)
