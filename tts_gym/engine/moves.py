"""What both engines share: the moves, the reasons to refuse one, and the order of branches."""

from __future__ import annotations

import random
from enum import IntEnum
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


class Move(IntEnum):
    """The five moves of the replay MDP, and the mark a controller sets between rounds."""

    BRANCH = 0  # open the next branch of the order and generate its first interval
    CONTINUE = 1  # generate the next interval of branch i, or see it end
    PROBE = 2  # read the current answer of branch i, once per depth
    PRUNE = 3  # give branch i up; final, free
    ANSWER = 4  # end the episode with an answer number, or -1 for none
    END_ROUND = 5  # everything since the last mark ran side by side (sequential tokens only)


class Refusal(IntEnum):
    """Why a move is illegal; ``NONE`` means that it is legal."""

    NONE = 0
    NOT_OPENED = 1
    FINISHED = 2
    PRUNED = 3
    NO_BRANCH_LEFT = 4
    WIDTH_REACHED = 5
    BUDGET = 6
    ALREADY_PROBED = 7
    UNKNOWN_ANSWER = 8
    EPISODE_OVER = 9


SENTENCES = {
    Refusal.NOT_OPENED: "branch {i} was not opened",
    Refusal.FINISHED: "branch {i} is finished",
    Refusal.PRUNED: "branch {i} was pruned",
    Refusal.NO_BRANCH_LEFT: "every recorded branch is open already",
    Refusal.WIDTH_REACHED: "max_branches branches are open already",
    Refusal.BUDGET: "its cost does not fit in the remaining budget",
    Refusal.ALREADY_PROBED: "branch {i} was probed at this depth already",
    Refusal.UNKNOWN_ANSWER: "answer {i} has not been revealed in this episode",
    Refusal.EPISODE_OVER: "the episode has ended",
}


def refusal_sentence(move: Move, i: int, refusal: Refusal) -> str:
    """One sentence for an illegal move, e.g. ``CONTINUE(5) is illegal: branch 5 is finished``."""
    name = move.name if move in (Move.BRANCH, Move.END_ROUND) else f"{move.name}({i})"
    return f"{name} is illegal: {SENTENCES[refusal].format(i=i)}"


@lru_cache(maxsize=4096)
def branch_order(branches: int, order: int) -> NDArray[np.int32]:
    """The permutation in which branches are opened: ``random.Random(order).shuffle`` of 0..N-1.

    Spec 2.2: it depends on the number of branches and the order only, so one order opens the same
    positions in every question. Returns int32[N], read-only.
    """
    positions = list(range(branches))
    random.Random(order).shuffle(positions)
    return _read_only(np.array(positions, dtype=np.int32))


@lru_cache(maxsize=16)
def branch_orders(branches: int, orders: tuple[int, ...]) -> NDArray[np.int32]:
    """Several orders as int32[S, N], read-only; shuffling in Python takes longer than replaying."""
    return _read_only(np.stack([branch_order(branches, order) for order in orders]))


def _read_only(permutations: NDArray[np.int32]) -> NDArray[np.int32]:
    permutations.setflags(write=False)
    return permutations
