"""The POSIX face: pyfuse3 on one side, `store.files` on the other.

operations.py answers the kernel's requests, invalidate.py keeps the kernel's caches true when S3
changes what they hold, mount.py owns the session for its life.
"""

from fusefs.mount import MountFailed, MountOptions, serve_mount

__all__ = ["MountFailed", "MountOptions", "serve_mount"]
