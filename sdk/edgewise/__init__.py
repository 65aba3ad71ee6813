"""Edgewise: one model in, the whole fleet out.

``edgewise.connect()`` gives a client of the hub (needs ``edgewise[client]``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgewise.errors import BundleError, EdgewiseError, ProfileError, SketchError, WireError

if TYPE_CHECKING:
    from edgewise.client import Client

__version__ = "0.1.0"
__all__ = ["BundleError", "EdgewiseError", "ProfileError", "SketchError", "WireError", "__version__", "connect"]


def connect(url: str | None = None, token: str | None = None) -> Client:
    """Connect to a hub: arguments, else ``EDGEWISE_URL`` and ``EDGEWISE_TOKEN``, else the hub started on this machine.

    Raises EdgewiseError when no hub answers or no token is known.
    """
    try:
        from edgewise.client import connect as connect_client
    except ModuleNotFoundError as error:
        raise EdgewiseError(f"the client needs {error.name}: pip install 'edgewise[client]'") from error
    return connect_client(url, token)
