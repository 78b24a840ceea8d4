"""Requests behind a proxy: allowed hosts, a path prefix, HEAD for GET."""

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from retrieval.data.formats import InputError
from retrieval.web.errors import error_response

# The first folder of each address.
PAGES: tuple[str, ...] = (
    "api",
    "browse",
    "explanation",
    "healthz",
    "images",
    "metrics",
    "openapi.json",
    "photos",
)
PAGES += ("search", "static", "why")


class UnderPrefix:
    """Takes addresses with the prefix and, from proxies that cut it off, without."""

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        """Wrap an application; ``prefix`` is such as ``/cars``, or empty."""
        self.app, self.prefix = app, prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.prefix and scope["type"] == "http":
            path = scope["path"]
            if f"{path}/".startswith(f"{self.prefix}/"):
                path = path.removeprefix(self.prefix) or "/"
            scope = {**scope, "root_path": self.prefix, "path": self.prefix + path}
        await self.app(scope, receive, send)


class KnownHosts:
    """Refuses requests to another name of this server, but for the style of that answer."""

    def __init__(self, app: ASGIApp, allowed: Sequence[str]) -> None:
        """Wrap an application; ``allowed`` are names, or ``*`` for any."""
        self.app, self.allowed = app, {host_name(name) for name in allowed}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or "*" in self.allowed:
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        host = request.headers.get("host", "")
        static = f"{request.app.state.root_path}/static/"
        if host_name(host) in self.allowed or scope["path"].startswith(static):
            await self.app(scope, receive, send)
            return
        name = host_name(host)
        text = f"this server does not answer to the name {host[:200]!r}"
        if name:
            text += f"; if it is yours, start the server with --allow_host {name}"
        await error_response(request, 400, text)(scope, receive, send)


class HeadAsGet:
    """Answers HEAD with the head of what GET gives."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an application."""
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return

        async def without_body(message: Message) -> None:
            await send({**message, "body": b""} if "body" in message else message)

        await self.app({**scope, "method": "GET"}, receive, without_body)


def host_name(host: str) -> str:
    """Return the name in a header ``Host``, in lower case; empty if it is none.

    >>> host_name("Cars.example.com:8443"), host_name("[::1]:8000"), host_name("a b")
    ('cars.example.com', '::1', '')
    """
    if host == "*":
        return host
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
    name = name.rstrip(".")
    return name if re.fullmatch(r"[\w.:-]+", name) else ""


def checked_hosts(names: Sequence[str]) -> list[str]:
    """Return the names that ``--allow_host`` gives.

    Raises:
        InputError: One is no name.
    """
    for name in names:
        if "/" in name or not host_name(name):
            raise InputError(
                f"--allow_host takes names as they stand in addresses, such as cars.example.com; "
                f"got {name!r}"
            )
    return list(names)


def checked_prefix(text: str) -> str:
    """Return the prefix that ``--root_path`` gives, with a slash before it and none behind it.

    >>> checked_prefix("cars/"), checked_prefix("/"), checked_prefix("/a/b")
    ('/cars', '', '/a/b')

    Raises:
        InputError: It is no path, or begins as a page of the server does.
    """
    path = text.strip("/")
    if not re.fullmatch(r"[\w.~/-]*", path, re.ASCII) or "//" in path or ".." in path:
        raise InputError(f"--root_path takes a path, such as /cars; got {text!r}")
    if path and path.split("/")[0] in PAGES:
        raise InputError(f"--root_path={text}: pages of the server have this path; choose another")
    return f"/{path}" if path else ""
