"""``SRZOO_OFFLINE``: whether anything may be fetched, and a context in which libraries can fetch nothing."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

_lock = threading.Lock()
_inside = 0
_undo = ExitStack()


def is_offline() -> bool:
    """Whether ``SRZOO_OFFLINE`` is set, to anything but 0."""
    return os.environ.get("SRZOO_OFFLINE", "") not in ("", "0")


@contextmanager
def offline_if_asked() -> Iterator[None]:
    """With ``SRZOO_OFFLINE``, let nothing connect to anywhere: libraries fetch in many ways, most of them unasked.

    Hugging Face's looks into its cache alone, whenever it is imported. Threads may be in this context at the same time.
    """
    global _inside
    if not is_offline():
        yield
        return
    with _lock:
        _inside += 1
        if _inside == 1:
            _disconnect(_undo)
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                _undo.close()


def _disconnect(undo: ExitStack) -> None:
    connect = socket.socket.connect

    def refuse(*_: object, **__: object) -> None:
        raise OSError("SRZOO_OFFLINE is set")

    def connect_here(self: socket.socket, address: Any) -> None:
        if self.family != getattr(socket, "AF_UNIX", None):  # by which processes of one program talk
            refuse()
        connect(self, address)

    undo.callback(_set_hub, _hub_is_offline())
    undo.enter_context(mock.patch.dict(os.environ, {"HF_HUB_OFFLINE": "1"}))  # read where it is imported from now on
    _set_hub(True)
    undo.enter_context(mock.patch.object(socket.socket, "connect", connect_here))
    undo.enter_context(mock.patch.object(socket, "getaddrinfo", refuse))


def _hub_is_offline() -> bool:
    hub = sys.modules.get("huggingface_hub.constants")
    by_variable = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    return bool(getattr(hub, "HF_HUB_OFFLINE", by_variable))


def _set_hub(offline: bool) -> None:
    hub: Any = sys.modules.get("huggingface_hub.constants")
    if hub is not None:
        hub.HF_HUB_OFFLINE = offline
