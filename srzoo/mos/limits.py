"""What stands between the network and the pages: bounded bodies, bounded rates, and strict headers."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict

from starlette.datastructures import MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY = 4096
"""Bytes; the longest body that a page sends is a name."""
MAX_URL = 512
BODY_SECONDS = 10

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",  # the address is what a rater is known by
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex, nofollow",
}


class Bounds:
    """Refuses long addresses and bodies before anything reads them, and sets the headers of every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return  # a web socket is not accepted

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        refusal = _too_long(scope)
        body = b""
        if refusal is None:
            try:
                body = await asyncio.wait_for(_read(receive), BODY_SECONDS)
            except asyncio.TimeoutError:
                refusal = 408, "The request took too long."
            if len(body) > MAX_BODY:
                refusal = 413, "The request is too large."
        if refusal is not None:
            response = PlainTextResponse(refusal[1], refusal[0], {"Connection": "close"})
            await response(scope, receive, send_with_headers)
            return
        given = False

        async def receive_read() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, receive_read, send_with_headers)


def _too_long(scope: Scope) -> tuple[int, str] | None:
    if len(scope.get("raw_path", b"")) + len(scope["query_string"]) > MAX_URL:
        return 414, "The address is too long."
    length = dict(scope["headers"]).get(b"content-length", b"0")
    if not length.isdigit() or int(length) > MAX_BODY:
        return 413, "The request is too large."
    return None


async def _read(receive: Receive) -> bytes:
    body = b""
    while len(body) <= MAX_BODY:
        message = await receive()
        body += message.get("body", b"")
        if message["type"] != "http.request" or not message.get("more_body", False):
            break
    return body


class Rate:
    """A token bucket for each key: so many at once, so many a second in the long run.

    Args:
        burst: how many at once.
        per_second: how many a second.
        keys: how many keys are remembered; the one not heard of for longest is forgotten first.
    """

    def __init__(self, burst: float, per_second: float, keys: int = 20_000) -> None:
        self._burst, self._per_second, self._keys = burst, per_second, keys
        self._lock = threading.Lock()
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allows(self, key: str) -> bool:
        """Take one from the key's bucket, and say whether there was one."""
        now = time.monotonic()
        with self._lock:
            left, since = self._buckets.get(key, (self._burst, now))
            left = min(self._burst, left + (now - since) * self._per_second)
            self._buckets[key] = (left - 1 if left >= 1 else left, now)
            self._buckets.move_to_end(key)
            if len(self._buckets) > self._keys:
                self._buckets.popitem(last=False)
        return left >= 1
