"""Continuation tokens: where a listing goes on, in letters that any client hands back unharmed.

Pure functions. A token is base64url of the text; it says nothing the client doesn't know.
"""

from __future__ import annotations

import base64
import binascii

from s3api.errors import InvalidArgument


def encode_token(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode(errors="surrogateescape")).decode()


def decode_token(token: str) -> str:
    """Raises InvalidArgument for what `encode_token` never made."""
    try:
        return base64.b64decode(token.encode(), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise InvalidArgument(
            "The continuation token provided is incorrect",
            (("ArgumentName", "continuation-token"),),
        ) from None
