"""``edgewise-agent run``: serve, and stay in touch with the hub."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys

from edgewise_agent import identity, logs
from edgewise_agent.commands.enroll import TOKEN_VARIABLE
from edgewise_agent.commands.parts import DEFAULT_PORT, Command
from edgewise_agent.serving.listeners import open_listeners
from edgewise_agent.serving.options import of_owner
from edgewise_agent.store.disk import Disk
from edgewise_agent.store.lock import lock


def add(command: Command) -> None:
    """Its arguments."""
    sub = command("run", run, "Serve, and stay in touch with the hub.")
    sub.add_argument("--port", type=int, default=DEFAULT_PORT, help="port on 127.0.0.1; 0: any that is free")


def run(arguments: argparse.Namespace) -> None:
    """Until SIGTERM or SIGINT."""
    from edgewise_agent.agent import Agent  # here, so that other commands stay quick

    who = identity.load(arguments.data)
    logs.set_up(arguments.data, secrets=(who.password, os.environ.get(TOKEN_VARIABLE, "")))
    options = of_owner(os.environ)
    with lock(arguments.data), open_listeners(arguments.data, arguments.port) as listeners:

        def announce(line: dict[str, str | int]) -> None:
            print(json.dumps(line), flush=True)

        agent = Agent(arguments.data, who, Disk(), listeners, announce, options)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: agent.request_stop())
        code = agent.run()
    sys.exit(code)
