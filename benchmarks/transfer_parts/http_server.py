"""The peer: blobs as plain files over HTTP, by uvicorn and Starlette's FileResponse. Ends with its standard input."""

from __future__ import annotations

import socket
import sys
import threading
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import Route


def main(folder: Path) -> None:
    """Serve ``folder``'s blobs, and print the port."""

    async def blob(request: Request) -> FileResponse:
        digest = request.path_params["digest"]
        return FileResponse(folder / digest[:2] / digest)

    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        print(listener.getsockname()[1], flush=True)
        config = uvicorn.Config(Starlette(routes=[Route("/{digest}", blob)]), access_log=False, log_config=None)
        server = uvicorn.Server(config)
        threading.Thread(target=_stop_with_stdin, args=(server,), daemon=True).start()
        server.run(sockets=[listener])


def _stop_with_stdin(server: uvicorn.Server) -> None:
    sys.stdin.read()
    server.should_exit = True


if __name__ == "__main__":
    main(Path(sys.argv[1]))
