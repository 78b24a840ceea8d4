"""Security headers of responses, and limits on requests."""

import asyncio
import time

from fastapi import HTTPException, Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from retrieval.web.errors import error_response
from retrieval.web.service_metrics import ServiceMetrics

BODY_BYTES = 20_000_000
BODY_S = 30.0  # to send a whole body; slower clients hold a connection for nothing

HEADERS = {
    "content-security-policy": (
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",  # an address holds the key of an upload
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


class BodyLimit:
    """Refuses bodies that are too large, by their declared and by their real length, or too slow.

    The part of a body beyond the limit is never read.
    """

    def __init__(self, app: ASGIApp, max_bytes: int = BODY_BYTES, seconds: float = BODY_S) -> None:
        """Wrap an application; ``seconds`` are for a whole body."""
        self.app, self.max_bytes, self.seconds = app, max_bytes, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "0")
        # A proxy may pass on what uvicorn refuses: a length that is no number counts as too large.
        is_large = not declared.isdecimal() or int(declared) > self.max_bytes
        received = 0
        deadline = time.monotonic() + self.seconds
        is_whole = False

        async def limited() -> Message:
            nonlocal received, is_whole
            if is_whole:
                return await receive()
            if is_large:
                raise self._too_large()
            try:
                message = await asyncio.wait_for(receive(), deadline - time.monotonic())
            except asyncio.TimeoutError:
                raise HTTPException(408, f"the body took longer than {self.seconds:g} s") from None
            received += len(message.get("body", b""))
            if received > self.max_bytes:
                raise self._too_large()
            is_whole = not message.get("more_body", False)
            return message

        await self.app(scope, limited, send)

    def _too_large(self) -> HTTPException:
        return HTTPException(413, f"the request has more than {self.max_bytes / 1e6:g} MB")


class OwnFormsOnly:
    """Refuses what a browser sends here from a page of another site, but for plain links."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an application."""
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_change = scope["type"] == "http" and scope["method"] not in ("GET", "HEAD", "OPTIONS")
        if is_change and Headers(scope=scope).get("sec-fetch-site") == "cross-site":
            text = "another site's page must not send this"
            await error_response(Request(scope), 403, text)(scope, receive, send)
            return
        await self.app(scope, receive, send)


class SecureHeaders:
    """Adds ``HEADERS`` to every response, and counts it."""

    def __init__(self, app: ASGIApp, metrics: ServiceMetrics) -> None:
        """Wrap an application."""
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def protected(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
                # Only templates of routes: a client must not make up labels.
                route = getattr(scope.get("route"), "path", "none")
                self.metrics.requests.labels(route, str(message["status"])).inc()
            await send(message)

        await self.app(scope, receive, protected)
