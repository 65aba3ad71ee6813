"""``edgewise-agent unit``: a systemd unit for this device, hardened, on stdout."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edgewise_agent.commands.parts import DEFAULT_PORT, Command

UNIT = """\
# Made by edgewise-agent unit. Put it into /etc/systemd/system/edgewise-agent.service, then:
#   systemctl daemon-reload && systemctl enable --now edgewise-agent
[Unit]
Description=Edgewise agent
Wants=network-online.target
After=network-online.target time-sync.target
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
WatchdogSec=60
ExecStart={python} -m edgewise_agent.launch --data {data} --port {port}
Environment=ORT_DISABLE_TELEMETRY=1 PYTHONUNBUFFERED=1
User={user}
ReadWritePaths={data}
UMask=0077
Restart=always
RestartSec=5
TimeoutStopSec=30
KillMode=mixed
OOMPolicy=continue
NoNewPrivileges=yes
CapabilityBoundingSet=
ProtectSystem=strict
ProtectHome=read-only
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectControlGroups=yes
PrivateTmp=yes
RestrictSUIDSGID=yes
RestrictNamespaces=yes
RestrictRealtime=yes
LockPersonality=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged

[Install]
WantedBy=multi-user.target
"""


def add(command: Command) -> None:
    """Its arguments."""
    sub = command("unit", run, "A systemd unit for this device, on stdout.")
    sub.add_argument("--port", type=int, default=DEFAULT_PORT, help="port on 127.0.0.1")
    sub.add_argument("--user", default="edgewise", help="the user who owns the data folder")


def run(arguments: argparse.Namespace) -> None:
    """Print it."""
    data = Path(arguments.data).absolute()
    unit = UNIT.format(
        python=_quoted(sys.executable), data=_quoted(str(data)), port=arguments.port, user=arguments.user
    )
    print(unit, end="")


def _quoted(word: str) -> str:
    """As systemd reads one word: no specifier, no space that divides."""
    word = word.replace("%", "%%")
    return f'"{word}"' if " " in word else word
