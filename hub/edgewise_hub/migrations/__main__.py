"""Write the next migration from the difference between the tables and the migrations so far."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from alembic import command
from alembic.script import ScriptDirectory

from edgewise_hub.database import Database
from edgewise_hub.migrations import config, upgrade


def main() -> int:
    """Returns the exit status."""
    if len(sys.argv) != 2:
        print('usage: python -m edgewise_hub.migrations "what changes"', file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{Path(folder) / 'empty.db'}")
        upgrade(database)
        made = config(database)
        number = len(list(ScriptDirectory.from_config(made).walk_revisions())) + 1
        command.revision(made, sys.argv[1], autogenerate=True, rev_id=f"{number:04d}")
        database.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
