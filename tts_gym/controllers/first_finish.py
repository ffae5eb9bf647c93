"""First Finish Search (FFS): run n branches side by side; the first to end has the answer, the others stop.

Source: Agarwal et al. 2025, arXiv 2505.18149; spec 8.1 (short-m@k with m = 1).
Published operating point: any n, such as ``first_finish:n=8``.
Replay captures it to within an interval: all branches end the interval in which the first one ends. Of several
that end in it the one with the fewest tokens was first; under ``short_m_at_k:m=1`` they vote instead.
"""

from tts_gym.programs import (
    Episode,
    Knobs,
    advance,
    branch,
    can_branch,
    is_finished,
    latest,
    live,
    opened,
    spent_on,
    width,
)


def schedule(beta: float) -> dict[str, float]:
    return {"n": max(1, round(64 * beta))}


def solve(episode: Episode, knobs: Knobs) -> int:
    while opened(episode) < knobs.n and can_branch(episode):
        branch(episode)
    while width(episode) == opened(episode) > 0:  # none has ended
        for i in live(episode):
            advance(episode, i)
    first = -1
    for i in range(opened(episode)):
        if is_finished(episode, i) and (first < 0 or spent_on(episode, i) < spent_on(episode, first)):
            first = i
    return latest(episode, first) if first >= 0 else -1
