"""What happens to an input that fits a model's signature and does not look right.

Two may say so, of each problem apart: the device's owner, who has the last word, and the desired state. ``None`` says
nothing. Every case is counted, whatever happens to it.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Rule = Literal["count", "flag", "refuse"]
"""Let through; let through and said in the answer's parameters; not run."""


class Quality(msgspec.Struct, frozen=True, kw_only=True):
    """A rule for each problem."""

    out_of_bounds: Rule | None = None
    """A value outside the range of the reference, of its input or of its feature."""
    not_finite: Rule | None = None
    """NaN or infinity. In an input of features ([-1, n]) NaN says that a feature is missing: ``missing``."""
    missing: Rule | None = None
    """NaN in an input of features."""
    unknown_inputs: Rule | None = None
    """An input that the model does not have; it is dropped where it is let through."""


DEFAULT = Quality(out_of_bounds="count", not_finite="refuse", missing="refuse", unknown_inputs="refuse")


def decided(*words: Quality) -> Quality:
    """One rule for each problem: of those who say something, the first; else ``DEFAULT``."""
    said = {
        problem: next(rule for word in (*words, DEFAULT) if (rule := getattr(word, problem)) is not None)
        for problem in Quality.__struct_fields__
    }
    return Quality(**said)
