"""Where applications reach the agent: a port of 127.0.0.1, and a Unix socket in the data folder.

The supervisor opens them once and lends them to each serve child, so that a takeover refuses no connection. The Unix
socket has mode 0600: only the agent's own user, where the port is open to every user of the device.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from edgewise.errors import EdgewiseError

log = logging.getLogger(__name__)

BACKLOG = 128
SOCKET = "serve.sock"
MAX_PATH = 107
"""Bytes of a Unix socket's path, by the kernel."""


@contextmanager
def open_listeners(data: Path, port: int) -> Iterator[tuple[socket.socket, ...]]:
    """The port (0: any that is free) first, then the Unix socket; whoever calls has the data folder's lock.

    Raises EdgewiseError when the port is taken. A path that is too long for the kernel leaves the port alone.
    """
    with ExitStack() as stack:
        listeners = [stack.enter_context(_listen_tcp(port))]
        path = data / SOCKET
        if len(os.fsencode(path)) > MAX_PATH:
            log.warning("%s: expected a path of at most %d bytes for a Unix socket; none is opened", path, MAX_PATH)
        else:
            listeners.append(stack.enter_context(_listen_unix(path)))
            stack.callback(path.unlink, missing_ok=True)
        yield tuple(listeners)


def _listen_tcp(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen(BACKLOG)
    except (OSError, OverflowError) as error:
        listener.close()
        reason = getattr(error, "strerror", None) or error
        raise EdgewiseError(f"port {port}: {reason}; choose another with --port") from error
    return listener


def _listen_unix(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)  # of an agent that was killed
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    os.fchmod(listener.fileno(), 0o600)  # before bind: there is no moment in which others may connect
    try:
        listener.bind(str(path))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise EdgewiseError(f"{path}: {error.strerror}") from error
    return listener
