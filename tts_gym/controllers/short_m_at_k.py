"""short-m@k: run k branches side by side and stop all of them once m have ended; those that ended vote.

Short chains of thought are more often right than long ones, and the rest is never paid for.

Source: Hassid et al. 2025, arXiv 2505.17813; spec 8.1.
Published operating points: m 1 or 3 and k up to 10, such as ``short_m_at_k:m=3,k=8``.
Replay captures it to within an interval: all branches end the interval in which the m-th one ends, and all
that ended by then vote, which can be more than m; ties go to the earliest. As the spec's numbers do, it counts
branches that are read after every interval: 0.1 to 0.2% more tokens than unread ones.
"""

from tts_gym.programs import Episode, Knobs, is_finished, live, majority, start_many, step, width


def schedule(beta: float) -> dict[str, float]:
    return {"m": 3, "k": max(3, round(64 * beta))}


def solve(episode: Episode, knobs: Knobs) -> int:
    finals: list[int] = []  # answers of finished branches, in order of completion
    start_many(episode, knobs.k, finals)
    while len(finals) < knobs.m and width(episode) > 0:
        for i in live(episode):
            answer = step(episode, i)
            if is_finished(episode, i):
                finals.append(answer)
    return majority(finals)
