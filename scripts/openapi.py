"""Write the hub's OpenAPI document beside the console (``--check``: fail if it is not current)."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from edgewise_hub.api.app import openapi

PLACE = Path(__file__).parent.parent / "hub" / "console" / "openapi.json"


def main() -> int:
    """Returns the exit status."""
    document = json.dumps(openapi(), indent=1, sort_keys=True) + "\n"
    if "--check" not in sys.argv:
        PLACE.write_text(document)
        return 0
    if PLACE.read_text() == document:
        return 0
    print("hub/console/openapi.json is not current: run scripts/openapi.py and 'npm --prefix hub/console run types'")
    return 1


if __name__ == "__main__":
    sys.exit(main())
