"""What the commands that ask the running daemon share: finding it, and ending where it refuses.

The exit code tells which of the three it was: a wrong configuration, no daemon, or its refusal.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from daemon.cli import EXIT_FAILED, EXIT_NO_DAEMON, EXIT_USAGE, fail

SocketOption = Annotated[Path | None, Parameter(negative="")]


@contextmanager
def daemon_at(
    config: Path | None, socket: Path | None, *refusals: type[Exception]
) -> Iterator[Path]:
    """Where the daemon listens. What goes wrong meanwhile ends the command with a sentence.

    refusals: what is raised when the daemon won't; their text is one sentence.
    """
    from daemon.config import ConfigError, control_socket_of
    from daemon.control import NoDaemon

    try:
        yield socket or control_socket_of(config, os.environ)
    except ConfigError as error:
        fail(EXIT_USAGE, *error.faults)
    except NoDaemon as error:
        fail(EXIT_NO_DAEMON, str(error))
    except refusals as error:
        fail(EXIT_FAILED, str(error))
