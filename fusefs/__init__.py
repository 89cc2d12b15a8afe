"""The POSIX face: pyfuse3 on one side, `store.files` on the other.

operations.py answers the kernel's requests, invalidate.py keeps the kernel's caches true when S3
changes what they hold, mount.py owns the session for its life. Nothing is imported here, as the
mount helper takes mounttable.py and idmap.py alone, and is to start quickly.
"""
