"""ASGI lifespan: tell an application that serving begins and ends.

Belongs to the owner of the application, not to a server: the S3 application may be served by
several.

Concurrency: one task runs the application's side for as long as the context is open.
Source: ASGI specification 3.0, "Lifespan Protocol".
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from s3api.http1 import Application


class LifespanFailed(Exception):
    """The application refused to start, or failed while stopping."""


@asynccontextmanager
async def lifespan(app: Application, *, timeout_s: float = 30.0) -> AsyncIterator[None]:
    """Start `app`, run the body of the context, then shut `app` down.

    An application without lifespan (it raises at once) is served all the same, as the specification
    asks. Raises LifespanFailed, or trio.TooSlowError after timeout_s for either step.
    """
    to_app, from_owner = trio.open_memory_channel[dict[str, Any]](1)
    to_owner, from_app = trio.open_memory_channel[dict[str, Any]](1)

    async def run_app() -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}
        async with to_owner, from_owner:
            try:
                await app(scope, from_owner.receive, to_owner.send)
            except Exception:
                # Silence means "not supported"; a failure after start-up is told by its message.
                return

    async def step(name: str) -> None:
        with trio.fail_after(timeout_s):
            try:
                await to_app.send({"type": f"lifespan.{name}"})
                message = await from_app.receive()
            except (trio.BrokenResourceError, trio.EndOfChannel):
                return
        if message["type"] == f"lifespan.{name}.failed":
            raise LifespanFailed(message.get("message", ""))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_app)
        await step("startup")
        try:
            yield
        finally:
            with trio.CancelScope(shield=True):
                await step("shutdown")
            nursery.cancel_scope.cancel()
