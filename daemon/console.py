"""The port for people and probes: `/health/live`, `/health/ready` and a status page at `/`.

A small Quart-Trio application on Hypercorn. It lives as long as the process does, so that health
can be asked while the store starts, restarts or stops. It changes nothing and shows no secret,
and it is not guarded: listen on addresses that only the right people reach.
Invariant: a probe looks at memory only; it never touches a drive or the mount.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from quart import Response, render_template
from quart_trio import QuartTrio

from daemon.report import Report, duration_text, size_text

_GRACE_S = 1.0
_SEND_S = 10.0
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; "
        "base-uri 'none'; form-action 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def create_console(report: Callable[[], Report]) -> QuartTrio:
    """The application. report: called for each request, on the loop; must not wait."""
    app = QuartTrio("daemon", static_folder=None, template_folder=".")
    app.jinja_env.filters["size"] = size_text
    app.jinja_env.filters["duration"] = duration_text

    @app.get("/health/live")
    async def live() -> Response:
        return _text(200, "live")

    @app.get("/health/ready")
    async def ready() -> Response:
        fault = report().fault()
        return _text(200, "ready") if fault is None else _text(503, f"not ready: {fault}")

    @app.get("/")
    async def page() -> Response:
        text = await render_template("status.html", report=report())
        return Response(text, content_type="text/html; charset=utf-8")

    @app.after_request
    async def guard(response: Response) -> Response:
        response.headers.update(_HEADERS)
        return response

    return app


async def serve_console(
    app: QuartTrio,
    listeners: Sequence[socket.socket],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve on bound sockets until cancelled. They stay open: Hypercorn works on duplicates."""
    config = Config()
    config.bind = [f"fd://{os.dup(each.fileno())}" for each in listeners]
    config.errorlog = logging.getLogger("hypercorn.error")
    config.accesslog = None
    config.graceful_timeout = _GRACE_S
    config.include_server_header = False
    async with trio.open_nursery() as nursery:
        application = _ending_whole(app)
        await nursery.start(
            partial(serve, application, config, shutdown_trigger=trio.sleep_forever)
        )
        task_status.started()


def _ending_whole(app: QuartTrio) -> Any:
    """The application with each `send` kept from being cancelled half-way.

    Hypercorn ends the exchange within the last `send`, and tells the application so before it is
    done with the connection; Quart-Trio then cancels the request's tasks, the one that sends
    included, and the connection would neither be used again nor closed (Hypercorn 0.18).
    """

    async def application(scope: Any, receive: Any, send: Any) -> None:
        async def send_whole(message: Any) -> None:
            with trio.move_on_after(_SEND_S, shield=True):
                await send(message)

        await app(scope, receive, send_whole)

    return application


def _text(status: int, text: str) -> Response:
    response = Response(f"{text}\n", status=status, content_type="text/plain; charset=utf-8")
    if status == 503:
        response.headers["Retry-After"] = "5"
    return response
