"""The schema's history: revisions, applied in order, forward only, when a database is opened.

`versions/` holds one module a revision; the first creates the schema. `python -m
metadb.migrations NAME` writes the next one from the difference between them and `metadb.schema`,
to be read and corrected by hand. A test holds schema and revisions equal.

Concurrency: synchronous, in one transaction, before the engine serves.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import create_engine
from sqlalchemy.pool import StaticPool

from metadb.errors import SchemaTooNew


def upgrade(connection: sqlite3.Connection) -> None:
    """Bring the database up to the newest revision, all or nothing. Raises SchemaTooNew."""
    config = configuration()
    script = ScriptDirectory.from_config(config)
    engine = create_engine("sqlite://", creator=lambda: connection, poolclass=StaticPool)
    with engine.connect() as sqlalchemy_connection:
        revision = MigrationContext.configure(sqlalchemy_connection).get_current_revision()
        sqlalchemy_connection.rollback()
        if revision == script.get_current_head():
            return
        try:
            script.get_revision(revision or "base")
        except CommandError as error:
            raise SchemaTooNew(f"the metadata has revision {revision}, unknown here") from error
        connection.execute("BEGIN IMMEDIATE")
        config.attributes["connection"] = sqlalchemy_connection
        command.upgrade(config, "head")
        sqlalchemy_connection.commit()


def configuration() -> Config:
    """Alembic's configuration; there is no file of it."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
