"""The tables: what every one and every column means.

Statements are built from these `Table`s alone (see `statements`); migrations bring an older
file up to them, and a test holds the two equal. Times are nanoseconds since 1970, sizes and
offsets bytes, unless a column says otherwise.

Invariants (metadb.check asks each of them as a query):
  M1 every dentry names an inode that exists; inode.nlink counts its dentries (directories: 2
     plus child directories);
  M2 every extent's run exists, and run.refs counts the extents that name it;
  M3 every run's segment exists;
  M4 an inode has an `inline` row or extents, never both;
  M5 extents of an inode don't overlap; what none covers below inode.size is zeros;
  M6 a version's inode has no dentry and no other version; no two versions of a key, the current
     object among them, have the same version id;
  M7 usage is the sum over a bucket's inodes;
  M8 every inode but the root has a dentry, or is a version's, a part's or an orphan.
"""

from __future__ import annotations

from sqlalchemy import (
    BLOB,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    text,
)

METADATA = MetaData()

setting = Table(
    "setting",
    METADATA,
    # Single values of the store: `store_id`, `inode_ceiling` (no inode number at or above it was
    # ever given out), `clean_stop` (1 when the last daemon stopped in order); of heal and scrub
    # `heal_suspects`, `heal_history`, `draining_drives` and `scrub`; of rebalance `rebalance`.
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

bucket = Table(
    "bucket",
    METADATA,
    # The inode number of the bucket's directory; the directory is also a dentry of the root.
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("created_ns", Integer, nullable=False),
    # Access key that created it; empty when it was made through the mount.
    Column("owner", Text, nullable=False),
    # 'off' (never enabled), 'enabled' or 'suspended'.
    Column("versioning", Text, nullable=False, server_default="off"),
)

bucket_config = Table(
    "bucket_config",
    METADATA,
    # One document (lifecycle, cors, tagging, ...) of a bucket, by the name of its subresource.
    Column("bucket", Integer, ForeignKey("bucket.id"), nullable=False),
    Column("name", Text, nullable=False),
    # JSON, in the shape its owner in `store` defines.
    Column("document", Text, nullable=False),
    PrimaryKeyConstraint("bucket", "name"),
    sqlite_with_rowid=False,
)

identity = Table(
    "identity",
    METADATA,
    # Who may do what: few rows, read at start and kept in memory (store.identity).
    # The account's id: the root's, or a configured user's.
    Column("account", Text, nullable=False),
    # 'user', 'group', 'key', 'policy', 'role', 'provider', ...
    Column("kind", Text, nullable=False),
    # Unique within account and kind; of a key its access key id.
    Column("name", Text, nullable=False),
    # JSON, in the shape its owner in `store` defines; secrets in it are sealed.
    Column("document", Text, nullable=False),
    PrimaryKeyConstraint("account", "kind", "name"),
    sqlite_with_rowid=False,
)

inode = Table(
    "inode",
    METADATA,
    # Given out upwards from 1 (the root), never reused: the kernel keys its caches on it.
    Column("id", Integer, primary_key=True),
    # The bucket the inode was made in; 0 for the root itself.
    Column("bucket", Integer, nullable=False),
    # st_mode, type bits included.
    Column("mode", Integer, nullable=False),
    Column("uid", Integer, nullable=False),
    Column("gid", Integer, nullable=False),
    # 0: unlinked but still open somewhere, or a part of an upload.
    Column("nlink", Integer, nullable=False),
    # Published length. What the mount has written since the last publication lives in memory.
    Column("size", Integer, nullable=False),
    Column("rdev", Integer, nullable=False, server_default="0"),
    Column("atime_ns", Integer, nullable=False),
    Column("mtime_ns", Integer, nullable=False),
    Column("ctime_ns", Integer, nullable=False),
    # When the store recorded the last change of content: S3's LastModified (rule R10).
    Column("stored_ns", Integer, nullable=False),
    # Grows by one with every publication of new content.
    Column("content_version", Integer, nullable=False, server_default="0"),
    # S3 ETag without quotes. NULL: never published, so not a key yet (rule R6), or no file.
    Column("etag", Text),
    # S3 version id; NULL is the null version.
    Column("version_id", Text),
    # JSON of content headers, user metadata, checksums and part sizes (store.meta.ObjectMeta);
    # NULL when all of that is default.
    Column("meta", Text),
    # Target of a symbolic link.
    Column("target", BLOB),
    # Directories: the inode of the parent directory. NULL for everything else.
    Column("parent", Integer),
    # Bit 0: implicit, a directory that PUT made and DELETE prunes when it is empty (rule R4).
    Column("flags", Integer, nullable=False, server_default="0"),
)

dentry = Table(
    "dentry",
    METADATA,
    Column("parent", Integer, nullable=False),
    # The key's component, with a '/' behind it for a directory: byte order of names is then the
    # order of an S3 listing, and the object `a` stands beside the directory `a/` (rules R1, R15).
    Column("name", BLOB, nullable=False),
    Column("inode", Integer, ForeignKey("inode.id"), nullable=False),
    # The name on the mount where it can't be derived from `name` alone (over 255 bytes); else NULL.
    # A leaf and the directory of the same component share it.
    Column("alias", BLOB),
    PrimaryKeyConstraint("parent", "name"),
    sqlite_with_rowid=False,
)
Index("dentry_inode", dentry.c.inode)
Index(
    "dentry_alias",
    dentry.c.parent,
    dentry.c.alias,
    sqlite_where=text("alias IS NOT NULL"),
)

version = Table(
    "version",
    METADATA,
    # Versions of a key that are not the current object: older ones, and delete markers. They hang
    # on the key, not on a directory: an empty directory may go while its keys have a history.
    # Grows with time; the highest of a key is its newest.
    Column("sequence", Integer, primary_key=True),
    Column("bucket", Integer, ForeignKey("bucket.id"), nullable=False),
    Column("key", BLOB, nullable=False),
    # NULL is the null version.
    Column("version_id", Text),
    # NULL: a delete marker. Else an inode without a dentry that nothing ever writes to.
    Column("inode", Integer, ForeignKey("inode.id")),
    # When the content was recorded, or the key was deleted.
    Column("stored_ns", Integer, nullable=False),
)
Index("version_key", version.c.bucket, version.c.key, version.c.sequence.desc())
Index(
    "version_named",
    version.c.version_id,
    sqlite_where=text("version_id IS NOT NULL"),
)

usage = Table(
    "usage",
    METADATA,
    # What a bucket holds, kept true by the triggers below: content of objects, of versions, of
    # files not yet published and of parts; inodes include directories.
    Column("bucket", Integer, primary_key=True),
    Column("size", Integer, nullable=False),
    Column("inodes", Integer, nullable=False),
)

xattr = Table(
    "xattr",
    METADATA,
    Column("inode", Integer, ForeignKey("inode.id"), nullable=False),
    Column("name", BLOB, nullable=False),
    Column("value", BLOB, nullable=False),
    PrimaryKeyConstraint("inode", "name"),
    sqlite_with_rowid=False,
)

inline = Table(
    "inline",
    METADATA,
    # Content of small files, kept apart from `inode` so that a chmod needn't rewrite it.
    Column("inode", Integer, ForeignKey("inode.id"), primary_key=True),
    Column("content", BLOB, nullable=False),
)

segment = Table(
    "segment",
    METADATA,
    # A group of k + m member files, one to a drive. See store.chunks.types.Segment.
    Column("id", Integer, primary_key=True),
    Column("nonce", BLOB, nullable=False),
    Column("k", Integer, nullable=False),
    Column("m", Integer, nullable=False),
    Column("stripe_size", Integer, nullable=False),
    # Drive ids in shard order, separated by blanks.
    Column("members", Text, nullable=False),
)

run = Table(
    "run",
    METADATA,
    # segment << 28 | member offset / 4096: place and identity in one.
    Column("id", Integer, primary_key=True),
    Column("size", Integer, nullable=False),
    # How many extents name it. At 0 the row moves to `freed`.
    Column("refs", Integer, nullable=False),
    # Bit i: shard i was not written and waits for heal.
    Column("missing", Integer, nullable=False, server_default="0"),
)

extent = Table(
    "extent",
    METADATA,
    # Bytes [start, start + size) of the inode are bytes [run_start, ...) of the run.
    Column("inode", Integer, ForeignKey("inode.id"), nullable=False),
    Column("start", Integer, nullable=False),
    Column("size", Integer, nullable=False),
    Column("run", Integer, ForeignKey("run.id"), nullable=False),
    Column("run_start", Integer, nullable=False),
    PrimaryKeyConstraint("inode", "start"),
    sqlite_with_rowid=False,
)

freed = Table(
    "freed",
    METADATA,
    # Runs no extent names any more, whose space is yet to be given back.
    Column("run", Integer, primary_key=True),
    Column("size", Integer, nullable=False),
)

orphan = Table(
    "orphan",
    METADATA,
    # Inodes with no dentry that something still uses: open handles (gone after a restart). Parts
    # of uploads are named by `part`, not by this.
    Column("inode", Integer, ForeignKey("inode.id"), primary_key=True),
)

upload = Table(
    "upload",
    METADATA,
    # A multipart upload that is neither completed nor aborted. The id sorts by time.
    Column("id", Text, primary_key=True),
    Column("bucket", Integer, ForeignKey("bucket.id"), nullable=False),
    Column("key", BLOB, nullable=False),
    Column("initiated_ns", Integer, nullable=False),
    Column("owner", Text, nullable=False),
    # JSON as in inode.meta: what the object will carry.
    Column("meta", Text),
)
Index("upload_key", upload.c.bucket, upload.c.key, upload.c.id)

completed = Table(
    "completed",
    METADATA,
    # Uploads that were completed, so that a repeated Complete can be answered alike.
    Column("upload", Text, primary_key=True),
    Column("bucket", Integer, nullable=False),
    Column("key", BLOB, nullable=False),
    Column("etag", Text, nullable=False),
    Column("at_ns", Integer, nullable=False),
)

part = Table(
    "part",
    METADATA,
    Column("upload", Text, ForeignKey("upload.id"), nullable=False),
    # 1 to 10,000.
    Column("number", Integer, nullable=False),
    # An inode without a dentry that holds the part's bytes in extents (never inline).
    Column("inode", Integer, ForeignKey("inode.id"), nullable=False),
    Column("size", Integer, nullable=False),
    # MD5 in hex.
    Column("etag", Text, nullable=False),
    # "ALGORITHM:base64" pairs separated by blanks; empty for none.
    Column("checksums", Text, nullable=False, server_default=""),
    Column("stored_ns", Integer, nullable=False),
    PrimaryKeyConstraint("upload", "number"),
    sqlite_with_rowid=False,
)

change = Table(
    "change",
    METADATA,
    # The outbox: one row per mutation, in commit order, in the mutation's own transaction.
    Column("sequence", Integer, primary_key=True),
    Column("at_ns", Integer, nullable=False),
    # 'put', 'delete', 'copy', 'complete', 'publish', 'rename', 'attributes', 'bucket+', ...
    Column("what", Text, nullable=False),
    Column("bucket", Integer, nullable=False),
    # Parent directory and component name; a rename's row names the new place.
    Column("parent", Integer, nullable=False),
    Column("name", BLOB, nullable=False),
    Column("version_id", Text),
    Column("inode", Integer, nullable=False),
)

# Usage is counted by the database itself: whatever statement makes, removes, resizes or moves an
# inode, quota is exact in the same transaction. Buckets get their row when they are made.
TRIGGERS = {
    "usage_of_new_inode": """
        CREATE TRIGGER usage_of_new_inode AFTER INSERT ON inode BEGIN
            UPDATE usage SET size = size + new.size, inodes = inodes + 1 WHERE bucket = new.bucket;
        END""",
    "usage_of_gone_inode": """
        CREATE TRIGGER usage_of_gone_inode AFTER DELETE ON inode BEGIN
            UPDATE usage SET size = size - old.size, inodes = inodes - 1 WHERE bucket = old.bucket;
        END""",
    "usage_of_resized_inode": """
        CREATE TRIGGER usage_of_resized_inode AFTER UPDATE OF size ON inode
        WHEN new.size <> old.size BEGIN
            UPDATE usage SET size = size + new.size - old.size WHERE bucket = new.bucket;
        END""",
    "usage_of_moved_inode": """
        CREATE TRIGGER usage_of_moved_inode AFTER UPDATE OF bucket ON inode
        WHEN new.bucket <> old.bucket BEGIN
            UPDATE usage SET size = size - old.size, inodes = inodes - 1 WHERE bucket = old.bucket;
            UPDATE usage SET size = size + new.size, inodes = inodes + 1 WHERE bucket = new.bucket;
        END""",
}
