"""Versions hang on keys; the database counts what a bucket holds."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_TRIGGERS = (
    """CREATE TRIGGER usage_of_new_inode AFTER INSERT ON inode BEGIN
        UPDATE usage SET size = size + new.size, inodes = inodes + 1 WHERE bucket = new.bucket;
    END""",
    """CREATE TRIGGER usage_of_gone_inode AFTER DELETE ON inode BEGIN
        UPDATE usage SET size = size - old.size, inodes = inodes - 1 WHERE bucket = old.bucket;
    END""",
    """CREATE TRIGGER usage_of_resized_inode AFTER UPDATE OF size ON inode
    WHEN new.size <> old.size BEGIN
        UPDATE usage SET size = size + new.size - old.size WHERE bucket = new.bucket;
    END""",
    """CREATE TRIGGER usage_of_moved_inode AFTER UPDATE OF bucket ON inode
    WHEN new.bucket <> old.bucket BEGIN
        UPDATE usage SET size = size - old.size, inodes = inodes - 1 WHERE bucket = old.bucket;
        UPDATE usage SET size = size + new.size, inodes = inodes + 1 WHERE bucket = new.bucket;
    END""",
)


def upgrade() -> None:
    # Nothing ever wrote to the first shape of this table.
    op.drop_table("version")
    op.create_table(
        "version",
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("bucket", sa.Integer(), nullable=False),
        sa.Column("key", sa.BLOB(), nullable=False),
        sa.Column("version_id", sa.Text(), nullable=True),
        sa.Column("inode", sa.Integer(), nullable=True),
        sa.Column("stored_ns", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["bucket"], ["bucket.id"]),
        sa.ForeignKeyConstraint(["inode"], ["inode.id"]),
        sa.PrimaryKeyConstraint("sequence"),
    )
    op.create_index("version_key", "version", ["bucket", "key", sa.text("sequence DESC")])
    op.create_index(
        "version_named",
        "version",
        ["version_id"],
        sqlite_where=sa.text("version_id IS NOT NULL"),
    )
    op.create_table(
        "usage",
        sa.Column("bucket", sa.Integer(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("inodes", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("bucket"),
    )
    op.execute(
        "INSERT INTO usage (bucket, size, inodes) SELECT bucket.id, "
        "coalesce(sum(inode.size), 0), count(inode.id) FROM bucket "
        "LEFT JOIN inode ON inode.bucket = bucket.id GROUP BY bucket.id"
    )
    for trigger in _TRIGGERS:
        op.execute(trigger)
