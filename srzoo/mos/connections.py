"""An end to every wait for a client, and to how many clients there are.

uvicorn bounds how long a connection may be idle between two requests, and nothing else: who connects and sends no
request, or one byte of it now and then, or does not read the answer, keeps the connection for good.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 10.0
"""From when a connection is there, or a further request begins, until the request's head has come."""
ANSWER_SECONDS = 120.0
"""For the rest of a request and for its answer, which is an image of some hundred kilobytes at most."""
CONNECTIONS = 1000
"""With more, uvicorn answers that the service is unavailable, and the page tries again."""
MOST = CONNECTIONS + 200
"""With more, connections are closed without an answer, so that files remain to be opened for others."""
FILES = 2 * MOST
"""How many the process may have open, where the system lets it choose."""


class BoundedProtocol(H11Protocol):
    """uvicorn's protocol with one deadline for each connection, set anew with each step that a request makes."""

    _deadline: asyncio.TimerHandle | None = None
    _awaits_head = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > MOST:
            transport.abort()
        else:
            self._end_in(HEAD_SECONDS)

    def data_received(self, data: bytes) -> None:
        earlier = self.cycle
        super().data_received(data)
        if self.cycle is not earlier:  # the head has come
            self._awaits_head = False
            self._end_in(ANSWER_SECONDS)
        elif earlier is not None and earlier.response_complete and not self._awaits_head:
            self._awaits_head = True
            self._end_in(HEAD_SECONDS)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._end_in(ANSWER_SECONDS)  # it waits in this process's memory for who reads it

    def connection_lost(self, exc: Exception | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)

    def _end_in(self, seconds: float) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self.loop.call_later(seconds, self._end)

    def _end(self) -> None:
        if self.transport.get_write_buffer_size():
            self.transport.abort()  # close() would wait for a reader
        else:
            self.transport.close()


def allow_files() -> None:
    """Let the process open as many files as there may be connections and more, if the system allows it."""
    with suppress(ImportError, ValueError, OSError):  # Windows has no such limit
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
