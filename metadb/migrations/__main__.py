"""Write the next revision: `python -m metadb.migrations NAME`. For developers."""

from __future__ import annotations

import sys

from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from metadb.migrations.apply import configuration


def main(name: str) -> None:
    """Write `versions/NNNN_name.py` from what the schema has and the revisions lack."""
    config = configuration()
    script = ScriptDirectory.from_config(config)
    number = sum(1 for _ in script.walk_revisions()) + 1
    with create_engine("sqlite://").connect() as connection:
        config.attributes["connection"] = connection
        if script.get_current_head() is not None:
            command.upgrade(config, "head")
        command.revision(config, message=name, autogenerate=True, rev_id=f"{number:04}")


if __name__ == "__main__":
    main(sys.argv[1])
