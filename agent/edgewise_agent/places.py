"""What a serve child runs, by place: ``digits`` is a model's active install, ``digits/candidate`` one beside it.

A model's name holds no ``/`` (``wire.codec.Name``), so that a place means one thing.
"""

from __future__ import annotations

from typing import cast

from edgewise.wire.control import Role


def place(model: str, role: Role) -> str:
    """The place of an install beside the active one."""
    return f"{model}/{role}"


def model_of(place: str) -> str:
    """The model that a place belongs to."""
    return place.partition("/")[0]


def role_of(place: str) -> Role:
    """The duty of the install at a place."""
    return cast("Role", place.partition("/")[2] or "active")


def beside(place: str) -> bool:
    """Is this the place of an install beside the active one?"""
    return "/" in place
