"""Revisions applied by Alembic; `metadb.migrations` imports this only when one is due.

Concurrency: synchronous, in one transaction, before the engine serves.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import create_engine
from sqlalchemy.pool import StaticPool

from metadb.errors import SchemaTooNew


def apply_missing(connection: sqlite3.Connection, revision: str | None) -> None:
    """Go from `revision` (None: an empty database) to the newest. Raises SchemaTooNew."""
    config = configuration()
    try:
        ScriptDirectory.from_config(config).get_revision(revision or "base")
    except CommandError as error:
        raise SchemaTooNew(f"the metadata has revision {revision}, unknown here") from error
    engine = create_engine("sqlite://", creator=lambda: connection, poolclass=StaticPool)
    with engine.connect() as sqlalchemy_connection:
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
