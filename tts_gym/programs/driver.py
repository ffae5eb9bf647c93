"""The loop around a compiled program: every question under every order. ``compilation.py`` binds ``solve``."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from tts_gym.engine.compiled import (
    OPENED,
    PEAK_WIDTH,
    PROBES,
    SPENT_TOKENS,
    answer,
    answered_code,
    reset,
    sequential_tokens,
)
from tts_gym.engine.memory import load
from tts_gym.errors import IllegalMove
from tts_gym.programs.native import as_episode

solve: Any = None

# Columns of ``outcomes``.
CODE, TOKENS, SEQUENTIAL, WIDTH, PROBED, BRANCHES, COLUMNS = range(7)


def drive(
    h: int,
    knobs: Any,
    questions: NDArray[Any],
    orders: NDArray[Any],
    orders_address: int,
    outcomes: NDArray[Any],
    at: NDArray[Any],
) -> None:
    """Run ``solve`` on each question (int64[A]) under each order (int32[S, N]) into outcomes int64[A, S, 6].

    ``at`` (int64[2]) says where it is, for whoever has to explain a failure.
    """
    for a in range(questions.size):
        for s in range(orders.shape[0]):
            at[0] = a
            at[1] = s
            reset(h, questions[a], orders_address + 4 * s * orders.shape[1])
            if answer(h, solve(as_episode(h), knobs)) != 0:
                raise IllegalMove("illegal answer")
            outcomes[a, s, CODE] = answered_code(h)
            outcomes[a, s, TOKENS] = load(h, SPENT_TOKENS)
            outcomes[a, s, SEQUENTIAL] = sequential_tokens(h)
            outcomes[a, s, WIDTH] = load(h, PEAK_WIDTH)
            outcomes[a, s, PROBED] = load(h, PROBES)
            outcomes[a, s, BRANCHES] = load(h, OPENED)
