"""Team-draft interleaving: one ranking made of two, and whom a click speaks for. Pure; coins are passed in.

Radlinski, Kurup, Joachims: How does clickthrough data reflect retrieval quality? CIKM 2008, algorithm 2. The two
rankers draft items in rounds, as captains pick teams; a coin says who picks first in each round. A click counts for
the team of the item, and a request is won by the team with more clicks.

Rules that hold here:
- an item appears once, in the team of the ranker that picked it;
- the teams' sizes never differ by more than one while both rankers have items left: equal rankers win equally often.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Team = Literal["active", "candidate"]
MAX_ITEMS = 1024
"""Of a ranking."""


@dataclass(frozen=True)
class Draft:
    """``items``: the ranking that is shown, best first; ``teams``: who picked each."""

    items: tuple[int, ...]
    teams: tuple[Team, ...]


def ranking(scores: npt.NDArray[np.generic]) -> list[int]:
    """Items by falling score; of equal scores the lower index first. ``scores``: [items] or [1, items].

    Raises ValueError for another shape, for more than ``MAX_ITEMS`` and for what are no floats.
    """
    flat = scores[0] if scores.ndim == 2 and scores.shape[0] == 1 else scores
    if flat.ndim != 1 or flat.size > MAX_ITEMS or flat.dtype.kind != "f":
        raise ValueError(
            f"ranking: expected scores [items] or [1, items], floats, at most {MAX_ITEMS}, "
            f"got {scores.dtype} {list(scores.shape)}"
        )
    order: list[int] = np.argsort(-flat.astype(np.float64), kind="stable").tolist()
    return order


def team_draft(active: Sequence[int], candidate: Sequence[int], coin: Callable[[], bool]) -> Draft:
    """Interleave two rankings of items. ``coin``: True lets ``active`` pick first in a round."""
    items: list[int] = []
    teams: list[Team] = []
    taken: set[int] = set()
    waiting: dict[Team, list[int]] = {"active": list(active)[::-1], "candidate": list(candidate)[::-1]}

    def pick(team: Team) -> None:
        left = waiting[team]
        while left and left[-1] in taken:
            left.pop()
        if left:
            item = left.pop()
            taken.add(item)
            items.append(item)
            teams.append(team)

    while waiting["active"] or waiting["candidate"]:
        first, second = ("active", "candidate") if coin() else ("candidate", "active")
        pick(first)  # type: ignore[arg-type]  # of a conditional, mypy keeps str
        pick(second)  # type: ignore[arg-type]
    return Draft(tuple(items), tuple(teams))


def ranked_scores(scores: npt.NDArray[np.generic], draft: Draft) -> npt.NDArray[np.generic]:
    """Scores by which whoever sorts gets the draft: the ones given, dealt to the items in its order. Equal ones are
    told apart by the least step that their dtype has."""
    falling = np.sort(scores.ravel())[::-1].copy()
    for i in range(1, len(falling)):
        if not falling[i] < falling[i - 1]:
            falling[i] = np.nextafter(falling[i - 1], falling.dtype.type(-np.inf))
    dealt = np.empty_like(falling)
    dealt[list(draft.items)] = falling
    return dealt.reshape(scores.shape)


def winner(active: int, candidate: int) -> Team | None:
    """Who won a request, by the clicks on items of each team; None: a tie, or no click."""
    return None if active == candidate else "active" if active > candidate else "candidate"
