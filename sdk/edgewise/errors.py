"""Errors shared by every room. Each says what was expected, what came, and what to do."""

from __future__ import annotations


class EdgewiseError(Exception):
    """Base of every error that Edgewise raises on purpose. ``code`` is stable and goes on the wire."""

    code = "error"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code


class WireError(EdgewiseError):
    """A message over its bound, not of its schema, or of a version that this build does not read."""

    code = "bad-message"


class BundleError(EdgewiseError):
    """A manifest, blob or signature that is not what it claims to be."""

    code = "bad-bundle"


class ProfileError(EdgewiseError):
    """A device profile that is missing or wrong: names the file, the key and what was expected."""

    code = "bad-profile"


class SketchError(EdgewiseError):
    """Sketch bytes that are damaged, over their bound, or of another spec."""

    code = "bad-sketch"
