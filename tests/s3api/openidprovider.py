"""A small OpenID provider: discovery and keys over HTTP, tokens signed with real keys."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from joserfc.jwk import ECKey, RSAKey
from joserfc.jws import JWSRegistry, serialize_compact

from store.access.tokens import ALGORITHMS

CLIENT = "the-client"


class OpenIdProvider:
    """Serves on a port of 127.0.0.1 until `close`.

    realm: the path of its issuer. port: 0 for any. keys: those that are published. fetches: how
    often the key set was fetched. is_up: False makes every answer an error.
    """

    def __init__(self, realm: str = "/realm", *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.keys: list[Any] = [RSAKey.generate_key(2048, {"kid": "first"})]
        self.fetches = 0
        self.is_up = True
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                document = provider._document(self.path)
                self.send_response(200 if document is not None else 503)
                body = json.dumps(document).encode()
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._realm = realm
        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.issuer = f"http://{host}:{self._server.server_address[1]}{realm}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def _document(self, path: str) -> dict[str, Any] | None:
        if not self.is_up:
            return None
        if path == f"{self._realm}/.well-known/openid-configuration":
            return {"issuer": self.issuer, "jwks_uri": f"{self.issuer}/keys"}
        if path == f"{self._realm}/keys":
            self.fetches += 1
            return {"keys": [key.as_dict(private=False) for key in self.keys]}
        return None

    def rotate(self, key_id: str, *, elliptic: bool = False) -> None:
        """Publish a new key in the place of the old ones, and sign with it."""
        made: Any = (
            ECKey.generate_key("P-256", {"kid": key_id})
            if elliptic
            else RSAKey.generate_key(2048, {"kid": key_id})
        )
        self.keys = [made]

    def token(self, *, key: Any = None, algorithm: str = "", **more: Any) -> str:
        """A token that holds; claims of `more` replace its own, None removes one."""
        key = key or self.keys[0]
        now_s = int(time.time())
        claims = {
            "iss": self.issuer,
            "sub": "ann",
            "aud": CLIENT,
            "iat": now_s,
            "exp": now_s + 600,
            **more,
        }
        claims = {name: value for name, value in claims.items() if value is not None}
        algorithm = algorithm or ("ES256" if isinstance(key, ECKey) else "RS256")
        registry = JWSRegistry(algorithms=[*ALGORITHMS, "HS256", "none"])
        header = {"alg": algorithm, "kid": key.kid}
        return serialize_compact(header, json.dumps(claims).encode(), key, registry=registry)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)
