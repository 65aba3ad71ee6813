"""``edgewise-agent logs``: the last lines of the ring on disk."""

from __future__ import annotations

import argparse
import json
import time
from datetime import datetime

from edgewise_agent import logs
from edgewise_agent.commands.parts import Command, with_json

LEVELS = ("debug", "info", "warning", "error", "critical")


def add(command: Command) -> None:
    """Its arguments."""
    sub = command("logs", run, "The last lines of the agent's log.")
    sub.add_argument("-n", type=int, default=50, help="how many lines")
    sub.add_argument("--level", choices=LEVELS, default="debug", help="this level and those above")
    with_json(sub)


def run(arguments: argparse.Namespace) -> None:
    """Print them, oldest first."""
    levels = LEVELS[LEVELS.index(arguments.level) :]
    lines = [line for line in logs.read_ring(arguments.data) if line.get("level") in levels]
    for line in lines[-max(0, arguments.n) :] if arguments.n > 0 else []:
        if arguments.json:
            print(json.dumps(line, ensure_ascii=False))
            continue
        at = datetime.fromtimestamp(float(line.get("time", time.time()))).isoformat(" ", "seconds")
        more = f" (and {line['suppressed']} more like it)" if line.get("suppressed") else ""
        print(f"{at} {str(line['level']).upper():7} {line.get('logger', '')}: {line.get('message', '')}{more}")
        if "traceback" in line:
            print(line["traceback"])
