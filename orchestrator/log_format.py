"""Log lines with their facts: `extra` of our own records, appended as key=value.

Knows nothing of what is logged; Celery's records and other libraries' stay as they are.
"""

from __future__ import annotations

import json
import logging
import re
from copy import copy
from typing import Any, Final

MAX_VALUE_CHARACTERS: Final = 200
"""A log line is for reading; the record and the endpoint have the rest."""
_OURS: Final = ("workers", "orchestrator", "conversations")
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
_SECRET: Final = re.compile(r"passw|secret|token|api_?key|authoriz|cookie|credential")
_LOGIN: Final = re.compile(r"(?<=://)[^/\s@]*@")
_PLAIN: Final = re.compile(r"[\w.:/@+\-]+")


class FactsFormatter(logging.Formatter):
    """Formats as another formatter does, with the facts after the message."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self.inner = inner

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a traceback follows it as ever."""
        facts = facts_of(record)
        if not facts:
            return self.inner.format(record)
        shown = copy(record)
        shown.msg, shown.args = f"{record.getMessage()} {facts}", ()
        return self.inner.format(shown)


def facts_of(record: logging.LogRecord) -> str:
    """Return what one of our records carries, without secrets, on one line."""
    if record.name.partition(".")[0] not in _OURS:
        return ""
    return " ".join(
        f"{name}={_shown(name, value)}"
        for name, value in vars(record).items()
        if name not in _STANDARD and value is not None
    )


def _shown(name: str, value: object) -> str:
    if _SECRET.search(name.lower()):
        return "***"
    text = _LOGIN.sub("***@", str(value))
    if len(text) > MAX_VALUE_CHARACTERS:
        text = f"{text[:MAX_VALUE_CHARACTERS]}…"
    return text if _PLAIN.fullmatch(text) else _quoted(text)


def _quoted(text: str) -> str:
    """Quote; line breaks of every kind are escaped, so that a line stays one."""
    quoted = json.dumps(text, ensure_ascii=False)
    return re.sub(r"[\x7f-\x9f\u2028\u2029]", lambda m: f"\\u{ord(m[0]):04x}", quoted)


def show_facts(logger: logging.Logger, **_: Any) -> None:
    """Have a logger's handlers show facts; takes what Celery's signals send."""
    for handler in logger.handlers:
        inner = handler.formatter
        if inner is not None and not isinstance(inner, FactsFormatter):
            handler.setFormatter(FactsFormatter(inner))
