"""Run by Alembic: applies revisions on the connection `upgrade` hands over."""

from __future__ import annotations

from alembic import context

from metadb.schema import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
context.run_migrations()
