"""A picture in a message: an address or the picture itself, passed through unread."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from conversations.json_value import Text

MAX_IMAGES: Final = 32
"""In one message."""
_ADDRESS = re.compile(
    r"https?://[^\s/]\S*|data:image/[a-z0-9.+-]+;base64,[\w+/=-]+", re.I
)


def _checked(url: str) -> str:
    if not _ADDRESS.fullmatch(url):
        raise ValueError(
            f"an image is an http(s) address or a data:image/…;base64, address"
            f" ({len(url)} characters given)"
        )
    return url


class Image(BaseModel):
    """One picture."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True
    )

    url: Annotated[Text, Field(min_length=1), AfterValidator(_checked)]
    """Where the model's server finds it, or a data address that holds it."""
    detail: Literal["auto", "low", "high"] = "auto"
    """How closely the model is to look; servers that know no such thing ignore it."""
