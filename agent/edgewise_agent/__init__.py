"""The agent: what runs on a device. For Python applications on it: ``from edgewise_agent import LocalModel``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgewise_agent.serving.local import LocalModel

__all__ = ["LocalModel", "__version__"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """``LocalModel`` brings numpy, for which the supervisor must not pay: imported when it is asked for."""
    if name == "LocalModel":
        from edgewise_agent.serving.local import LocalModel

        return LocalModel
    raise AttributeError(f"module 'edgewise_agent' has no attribute {name!r}")
