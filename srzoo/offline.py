"""``SRZOO_OFFLINE``: whether anything may be fetched, and a context in which libraries can fetch nothing."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest import mock


def is_offline() -> bool:
    """Whether ``SRZOO_OFFLINE`` is set, to anything but 0."""
    return os.environ.get("SRZOO_OFFLINE", "") not in ("", "0")


@contextmanager
def offline_if_asked() -> Iterator[None]:
    """With ``SRZOO_OFFLINE``, let nothing connect to anywhere: libraries fetch in many ways, most of them unasked.

    Hugging Face's looks into its cache alone, whenever it was imported.
    """
    if not is_offline():
        yield
        return

    def refuse(*_: object, **__: object) -> None:
        raise OSError("SRZOO_OFFLINE is set")

    with ExitStack() as stack:
        hub = sys.modules.get("huggingface_hub.constants")
        if hub is not None:
            stack.enter_context(mock.patch.object(hub, "HF_HUB_OFFLINE", True))
        stack.enter_context(mock.patch.object(socket.socket, "connect", refuse))
        stack.enter_context(mock.patch.object(socket, "getaddrinfo", refuse))
        yield
