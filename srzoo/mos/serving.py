"""Running the application in uvicorn, one process with threads: a study is small, and SQLite has one writer."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

from ..errors import DataError, InputError
from .app import create_app


def serve(
    folder: str | Path,
    host: str,
    port: int,
    *,
    behind_proxy: bool = False,
    ready: Callable[[], None] | None = None,
) -> None:
    """Serve a study until the process is told to stop.

    Args:
        behind_proxy: take raters' addresses from what a proxy on this machine says.
        ready: called once connections are accepted.

    Raises:
        InputError, DataError: there is no study, its database cannot be opened, or the port is taken.
    """
    import uvicorn

    from . import connections

    connections.allow_files()
    app = create_app(folder)
    app.state.site.ratings.warm_up()
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,  # addresses are what raters are known by
        server_header=False,
        proxy_headers=behind_proxy,
        forwarded_allow_ips="127.0.0.1,::1",
        http=connections.BoundedProtocol,
        limit_concurrency=connections.CONNECTIONS,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=5,
        ws="none",
    )
    config.load()
    listener = _listen(host, port)  # last, so that whoever is let in is answered at once
    if ready is not None:
        ready()
    with listener:
        uvicorn.Server(config).run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(512)
    except socket.gaierror:
        raise InputError(f"There is no address {host!r} to listen at; use 127.0.0.1, or 0.0.0.0 for all.") from None
    except OSError as error:
        raise DataError(f"Cannot listen at {host}:{port}: {error.strerror}. Give another --port.") from None
    return listener
