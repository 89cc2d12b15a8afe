"""The schema of the first version."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "bucket",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_ns", sa.Integer(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("versioning", sa.Text(), server_default="off", nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "change",
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("at_ns", sa.Integer(), nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("bucket", sa.Integer(), nullable=False),
        sa.Column("parent", sa.Integer(), nullable=False),
        sa.Column("name", sa.BLOB(), nullable=False),
        sa.Column("version_id", sa.Text(), nullable=True),
        sa.Column("inode", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("sequence"),
    )
    op.create_table(
        "completed",
        sa.Column("upload", sa.Text(), nullable=False),
        sa.Column("bucket", sa.Integer(), nullable=False),
        sa.Column("key", sa.BLOB(), nullable=False),
        sa.Column("etag", sa.Text(), nullable=False),
        sa.Column("at_ns", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("upload"),
    )
    op.create_table(
        "freed",
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("run"),
    )
    op.create_table(
        "inode",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("bucket", sa.Integer(), nullable=False),
        sa.Column("mode", sa.Integer(), nullable=False),
        sa.Column("uid", sa.Integer(), nullable=False),
        sa.Column("gid", sa.Integer(), nullable=False),
        sa.Column("nlink", sa.Integer(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("rdev", sa.Integer(), server_default="0", nullable=False),
        sa.Column("atime_ns", sa.Integer(), nullable=False),
        sa.Column("mtime_ns", sa.Integer(), nullable=False),
        sa.Column("ctime_ns", sa.Integer(), nullable=False),
        sa.Column("stored_ns", sa.Integer(), nullable=False),
        sa.Column("content_version", sa.Integer(), server_default="0", nullable=False),
        sa.Column("etag", sa.Text(), nullable=True),
        sa.Column("version_id", sa.Text(), nullable=True),
        sa.Column("meta", sa.Text(), nullable=True),
        sa.Column("target", sa.BLOB(), nullable=True),
        sa.Column("parent", sa.Integer(), nullable=True),
        sa.Column("flags", sa.Integer(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "run",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("refs", sa.Integer(), nullable=False),
        sa.Column("missing", sa.Integer(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "segment",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("nonce", sa.BLOB(), nullable=False),
        sa.Column("k", sa.Integer(), nullable=False),
        sa.Column("m", sa.Integer(), nullable=False),
        sa.Column("stripe_size", sa.Integer(), nullable=False),
        sa.Column("members", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "setting",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "version",
        sa.Column("parent", sa.Integer(), nullable=False),
        sa.Column("name", sa.BLOB(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("version_id", sa.Text(), nullable=True),
        sa.Column("inode", sa.Integer(), nullable=True),
        sa.Column("stored_ns", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("parent", "name", "sequence"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "bucket_config",
        sa.Column("bucket", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["bucket"],
            ["bucket.id"],
        ),
        sa.PrimaryKeyConstraint("bucket", "name"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "dentry",
        sa.Column("parent", sa.Integer(), nullable=False),
        sa.Column("name", sa.BLOB(), nullable=False),
        sa.Column("inode", sa.Integer(), nullable=False),
        sa.Column("alias", sa.BLOB(), nullable=True),
        sa.ForeignKeyConstraint(
            ["inode"],
            ["inode.id"],
        ),
        sa.PrimaryKeyConstraint("parent", "name"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "dentry_alias",
        "dentry",
        ["parent", "alias"],
        unique=False,
        sqlite_where=sa.text("alias IS NOT NULL"),
    )
    op.create_index("dentry_inode", "dentry", ["inode"], unique=False)
    op.create_table(
        "extent",
        sa.Column("inode", sa.Integer(), nullable=False),
        sa.Column("start", sa.Integer(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("run_start", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["inode"],
            ["inode.id"],
        ),
        sa.ForeignKeyConstraint(
            ["run"],
            ["run.id"],
        ),
        sa.PrimaryKeyConstraint("inode", "start"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "inline",
        sa.Column("inode", sa.Integer(), nullable=False),
        sa.Column("content", sa.BLOB(), nullable=False),
        sa.ForeignKeyConstraint(
            ["inode"],
            ["inode.id"],
        ),
        sa.PrimaryKeyConstraint("inode"),
    )
    op.create_table(
        "orphan",
        sa.Column("inode", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["inode"],
            ["inode.id"],
        ),
        sa.PrimaryKeyConstraint("inode"),
    )
    op.create_table(
        "upload",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("bucket", sa.Integer(), nullable=False),
        sa.Column("key", sa.BLOB(), nullable=False),
        sa.Column("initiated_ns", sa.Integer(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("meta", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["bucket"],
            ["bucket.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("upload_key", "upload", ["bucket", "key", "id"], unique=False)
    op.create_table(
        "xattr",
        sa.Column("inode", sa.Integer(), nullable=False),
        sa.Column("name", sa.BLOB(), nullable=False),
        sa.Column("value", sa.BLOB(), nullable=False),
        sa.ForeignKeyConstraint(
            ["inode"],
            ["inode.id"],
        ),
        sa.PrimaryKeyConstraint("inode", "name"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "part",
        sa.Column("upload", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("inode", sa.Integer(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("etag", sa.Text(), nullable=False),
        sa.Column("checksums", sa.Text(), server_default="", nullable=False),
        sa.Column("stored_ns", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["inode"],
            ["inode.id"],
        ),
        sa.ForeignKeyConstraint(
            ["upload"],
            ["upload.id"],
        ),
        sa.PrimaryKeyConstraint("upload", "number"),
        sqlite_with_rowid=False,
    )
