"""Random pools for property tests, and Hypothesis settings that are the same in every run."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from tts_gym.pools.pool import Recording

steady = settings(
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@st.composite
def recordings(draw: st.DrawFn, most_intervals: int = 6) -> Recording:
    """Small pools with every edge: L = 0, null answers, tokens far below, at and far above delta * L."""
    questions, branches = draw(st.integers(1, 3)), draw(st.integers(1, 6))
    most, vocabulary, delta = draw(st.integers(0, most_intervals)), draw(st.integers(1, 6)), draw(st.integers(1, 500))
    answers = np.full((questions, branches, most + 1), -1, dtype=np.int16)
    intervals = np.zeros((questions, branches), dtype=np.int16)
    tokens = np.zeros((questions, branches), dtype=np.int32)
    for q in range(questions):
        for n in range(branches):
            length = draw(st.integers(0, most))
            codes = draw(st.lists(st.integers(-1, vocabulary - 1), min_size=length + 1, max_size=length + 1))
            answers[q, n, : length + 1] = codes
            intervals[q, n] = length
            near = st.integers(-delta, delta).map(lambda rest, whole=delta * length: max(0, whole + rest))
            tokens[q, n] = draw(st.just(0) | st.just(delta * length) | near | st.integers(0, 12 * delta))
    return Recording(answers, intervals, tokens, delta, vocabulary)
