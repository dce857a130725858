"""Keeping freed memory in the process.

A training step frees and allocates the same large blocks over and over. glibc hands blocks above 32 MiB back to
the kernel on every free, and the page faults of getting them again cost up to a third of a step on a CPU, and a
fifth of an inference.
"""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h


def keep_freed_memory() -> bool:
    """Tell glibc to serve large blocks from its heap and to keep the heap; returns whether it took effect.

    Other C libraries and operating systems are left alone. For the same effect without srzoo, start the process
    with ``MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=-1``.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, -1))
