"""How the C library's allocator treats memory that KV transfer frees.

Each message takes megabytes and frees them: gRPC's buffers, then the message itself. glibc by default hands such memory
back to the kernel, which clears every page of it for the next message. That was half of a fetch's CPU time.
"""

import ctypes
from typing import Final

KEPT_BYTES: Final = 64 * 2**20
"""Freed memory that an arena keeps at its end: several messages, and gRPC's window of received data."""

LARGEST_KEPT_BYTES: Final = 32 * 2**20
"""Larger allocations go back to the kernel. glibc's own threshold adapts itself up to this number."""

_M_TRIM_THRESHOLD: Final = -1  # of malloc.h
_M_MMAP_THRESHOLD: Final = -3


def keep_freed_memory() -> bool:
    """Has this process's malloc keep freed memory for the next message; False where it is not glibc's."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, LARGEST_KEPT_BYTES) and mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES))
