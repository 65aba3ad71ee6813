"""Whose word holds for an input that does not look right."""

from __future__ import annotations

from edgewise.wire.quality import DEFAULT, Quality, decided


def test_the_first_who_says_something_is_followed_problem_by_problem() -> None:
    owner, hub = Quality(missing="flag"), Quality(missing="count", out_of_bounds="refuse")
    assert decided(owner, hub) == Quality(
        missing="flag", out_of_bounds="refuse", not_finite="refuse", unknown_inputs="refuse"
    )


def test_who_says_nothing_leaves_the_default() -> None:
    assert decided() == decided(Quality(), Quality()) == DEFAULT
    assert None not in [getattr(DEFAULT, problem) for problem in Quality.__struct_fields__]
