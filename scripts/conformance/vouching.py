"""The OpenID provider that test_sts.py takes for granted, and what it is told of it.

The suite was made for Keycloak, and names its place in its trust policies: http://localhost:8080,
below /auth/realms. So ours stands there, while the cases run. `app_id` is what the suite's policies
ask a token for; the user's token has tags, as AWS reads them from a token.

Concurrency: a thread that answers. Source: ceph/s3-tests, s3tests.conf.SAMPLE, "webidentity".
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

PORT = 8080
REALM = "demorealm"
CLIENT = "account"
SUBJECT = "the-subject-of-conformance"
THUMBPRINT = "F8D7B3515DD9D319DD219A43A9EA727AD6065287"
TAGS = {"https://aws.amazon.com/tags": {"principal_tags": {"Department": ["Engineering"]}}}
LASTS_S = 7200


@contextmanager
def vouching() -> Iterator[dict[str, object]]:
    """The section "webidentity" of the suite's configuration, while its provider answers."""
    import time

    from tests.s3api.openidprovider import OpenIdProvider

    provider = OpenIdProvider(f"/auth/realms/{REALM}", host="localhost", port=PORT)
    claims: dict[str, Any] = {
        "aud": CLIENT,
        "azp": CLIENT,
        "sub": SUBJECT,
        "app_id": CLIENT,
        "exp": int(time.time()) + LASTS_S,
    }
    try:
        yield {
            "token": provider.token(**claims),
            "user_token": provider.token(**{**claims, **TAGS}),
            "aud": CLIENT,
            "azp": CLIENT,
            "sub": SUBJECT,
            "thumbprint": THUMBPRINT,
            "KC_REALM": REALM,
        }
    finally:
        provider.close()
