"""How a model reads what a newer release may have added fields to: without them.

Releases work side by side while a fleet is renewed. Knows no model.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

M = TypeVar("M", bound=BaseModel)


def read_known(model: type[M], data: Any) -> M:
    """Return a model of stored JSON, leaving out what it does not know, at any depth.

    Raises:
        ValidationError: it does not fit otherwise.
    """
    try:
        return model.model_validate(data)
    except ValidationError as exc:
        findings = exc.errors(include_url=False, include_context=False)
        if any(finding["type"] != "extra_forbidden" for finding in findings):
            raise
    left = deepcopy(data)
    for finding in findings:
        *path, name = finding["loc"]
        place = left
        for part in path:
            place = place[part]
        del place[name]
    return model.model_validate(left)
