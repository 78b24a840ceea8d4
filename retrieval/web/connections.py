"""Connections of the server: how long each may wait for its client, and how many there may be.

uvicorn waits for ever for a request that never ends and for a client that does not read, and it
holds any number of connections. Here each wait has a deadline. Beyond the limit, the connection
that has waited longest is closed, so that a new client is always answered.
"""

import asyncio
import resource
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Literal, get_args

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from retrieval.web.middleware.protection import BODY_S
from retrieval.web.service_metrics import ServiceMetrics

MAX_CONNECTIONS = 512

Wait = Literal["request", "body", "reading"]  # what the client has to do


@dataclass(frozen=True)
class ClientTimeouts:
    """Seconds to wait for a client.

    Attributes:
        request: For the whole head of a request, from connecting or from the last answer.
        body: For the whole body, from the end of the head. `BodyLimit` answers before that.
        reading: For the client to read an answer that does not fit into the system's buffers.
    """

    request: float = 20.0
    body: float = BODY_S + 5
    reading: float = 60.0


TIMEOUTS = ClientTimeouts()


class Connections:
    """The connections of one server that wait for their clients.

    Attributes:
        metrics: Where closed connections are counted.
        timeouts: How long each may wait.
        max_connections: How many connections there may be.
    """

    def __init__(
        self,
        metrics: ServiceMetrics,
        timeouts: ClientTimeouts = TIMEOUTS,
        max_connections: int | None = None,
    ) -> None:
        """Take up to ``max_connections``; None: 512, or half the files the process may open."""
        self.metrics, self.timeouts = metrics, timeouts
        self.max_connections = (
            min(MAX_CONNECTIONS, _max_open_files() // 2)
            if max_connections is None
            else max_connections
        )
        # In the order in which they began to wait.
        self._waiting: dict[Wait, OrderedDict[Connection, None]] = {
            wait: OrderedDict() for wait in get_args(Wait)
        }

    def protocol(self, **options: Any) -> "Connection":
        """Return a new connection, for uvicorn."""
        return Connection(self, **options)

    def move(self, connection: "Connection", before: Wait | None, after: Wait | None) -> None:
        """Note what a connection waits for now; None: for the server."""
        if before is not None:
            self._waiting[before].pop(connection, None)
        if after is not None:
            self._waiting[after][connection] = None

    def make_room(self, new: "Connection") -> None:
        """Close another connection if there are too many with a new one.

        It is of the largest group: many that send half a head do not push out those that upload
        a photo, and the other way round.
        """
        largest = max(self._waiting.values(), key=lambda group: len(group))
        longest = next(iter(largest), new)
        if len(new.connections) > self.max_connections and longest is not new:
            longest.give_up("room")


class Connection(H11Protocol):
    """A connection that is closed when its client takes too long."""

    def __init__(self, group: Connections, **options: Any) -> None:
        super().__init__(**options)
        self.group = group
        self._wait: Wait | None = None
        self._of: object = None  # the request that it waits for
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_write_buffer_limits(0)  # anything unread counts as waiting
        self.group.metrics.connections.inc()
        self._follow()
        self.group.make_room(self)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.group.metrics.connections.dec()
        self._set(None)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._follow()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._follow()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._follow()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._follow()

    def give_up(self, why: str) -> None:
        """Close the connection without a word; what waits to be read is dropped."""
        self.group.metrics.given_up.labels(why).inc()
        self._set(None)
        self.connections.discard(self)
        self.transport.abort()

    def _follow(self) -> None:
        """Restart the clock if the connection waits for something else now."""
        wait = self._waits_for()
        if (wait, self.cycle) != (self._wait, self._of) and not self.transport.is_closing():
            self._set(wait)

    def _waits_for(self) -> Wait | None:
        if self.flow.write_paused:
            return "reading"
        if self.conn.their_state is h11.IDLE:
            return "request"
        return "body" if self.conn.their_state is h11.SEND_BODY else None

    def _set(self, wait: Wait | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.group.move(self, self._wait, wait)
        self._wait, self._of = wait, self.cycle
        self._timer = None
        if wait is not None:
            seconds = getattr(self.group.timeouts, wait)
            self._timer = self.loop.call_later(seconds, self.give_up, wait)


def _max_open_files() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 2 * MAX_CONNECTIONS if soft == resource.RLIM_INFINITY else soft
