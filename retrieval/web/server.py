"""The server of the application: sockets, connections and logging."""

import errno
import logging
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

import uvicorn
from fastapi import FastAPI

from retrieval.data.formats import InputError
from retrieval.web.connections import TIMEOUTS, ClientTimeouts, Connections

log = logging.getLogger(__name__)

BACKLOG = 64  # connections that are accepted at once, before any is looked at
KEEP_ALIVE_S = 15  # for the next request; less than `ClientTimeouts.request`
SHUTDOWN_S = 5  # for requests in progress


def bind(host: str, port: int) -> list[socket.socket]:
    """Return a socket for each address of a name; nobody can connect to them yet.

    Args:
        host: A name or an address of this computer.
        port: The port; 0: any that is free.

    Raises:
        InputError: The address is not of this computer, or the port is taken.
    """
    sockets: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, _, _, _, address in dict.fromkeys(found):
            opened = _bound(family, (address[0], port, *address[2:]))
            if opened is not None:
                sockets.append(opened)
                port = opened.getsockname()[1]
    except (socket.gaierror, UnicodeError):
        pass
    except OSError as error:
        for opened in sockets:
            opened.close()
        raise InputError(
            f"cannot listen on {shown(host)}:{port}: {error.strerror}; choose another --port"
        ) from error
    if not sockets:
        raise InputError(f"--host={host} is not an address of this computer; name another")
    return sockets


def _bound(family: int, address: tuple) -> socket.socket | None:
    """Return a socket that is bound; None if this computer lacks the address or its family."""
    opened = None
    try:
        opened = socket.socket(family, socket.SOCK_STREAM)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        opened.bind(address)
    except OSError as error:
        if opened is not None:
            opened.close()
        if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            return None
        raise
    return opened


def shown(host: str) -> str:
    """Return a host as it stands in an address.

    >>> shown("::1"), shown("localhost")
    ('[::1]', 'localhost')
    """
    return f"[{host}]" if ":" in host else host


def serve(app: FastAPI, sockets: list[socket.socket], host: str) -> None:
    """Serve an application on bound sockets until the process is interrupted; log the address."""
    for bound in sockets:
        bound.listen(BACKLOG)
    port = sockets[0].getsockname()[1]
    log.info("open http://%s:%d%s  (stop with Ctrl+C)", shown(host), port, app.state.root_path)
    with quiet_log():
        make_server(app).run(sockets)


def make_server(app: FastAPI, timeouts: ClientTimeouts = TIMEOUTS) -> uvicorn.Server:
    """Return the server of an application; ``run(sockets)`` runs it until it is told to end."""
    connections = Connections(app.state.service.metrics, timeouts)
    config = uvicorn.Config(
        app,
        http=connections.protocol,  # type: ignore[arg-type]  # any callable will do
        ws="none",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        limit_concurrency=connections.max_connections + 1,  # all of them busy: 503
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=SHUTDOWN_S,
    )
    return uvicorn.Server(config)


class LogLimit(logging.Filter):
    """Rate limit of a log message: messages that clients can provoke must not fill a disk."""

    def __init__(self, max_count: int = 10, seconds: float = 60.0) -> None:
        """Pass ``max_count`` messages of one kind in each ``seconds``."""
        super().__init__()
        self.max_count, self.seconds = max_count, seconds
        self._since = monotonic()
        self._counts: Counter[tuple[str, str]] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to pass a record; the last one that passes says that it is."""
        now = monotonic()
        if now - self._since > self.seconds:
            self._since, self._counts = now, Counter()
        kind = record.name, str(record.msg)[:60]
        self._counts[kind] += 1
        if self._counts[kind] == self.max_count:
            record.msg = f"{record.getMessage()} (more of these in this minute are not shown)"
            record.args = ()
        return self._counts[kind] <= self.max_count


@contextmanager
def quiet_log() -> Iterator[None]:
    """Limit what the handlers of the root logger pass, for as long as the context lasts."""
    limits = [(handler, LogLimit()) for handler in logging.getLogger().handlers]
    for handler, limit in limits:
        handler.addFilter(limit)
    try:
        yield
    finally:
        for handler, limit in limits:
            handler.removeFilter(limit)
