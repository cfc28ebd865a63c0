"""The secret that signs webhooks, as standardwebhooks.com writes it."""

from __future__ import annotations

import base64
import binascii
from typing import Final

PREFIX: Final = "whsec_"


def signing_key(secret: str) -> bytes:
    """Return the key that a secret stands for.

    After `whsec_` it is the base64 of the key, as libraries of Standard Webhooks read
    it; any other text is its own UTF-8 bytes.

    Raises:
        ValueError: it is blank, or what follows `whsec_` is no base64, or nothing.
    """
    if not secret.strip():
        raise ValueError("is blank, so anybody could sign; leave it out, or set a key")
    if not secret.startswith(PREFIX):
        return secret.encode()
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if not key:
        raise ValueError(
            f"what follows {PREFIX} must be the base64 of the key; make one with"
            ' python -c "import base64, os;'
            f" print('{PREFIX}' + base64.b64encode(os.urandom(32)).decode())\""
        )
    return key
