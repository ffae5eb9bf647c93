"""Beta rule on completion order: run n branches side by side; stop when the leader of those that ended is sure.

It is Adaptive-Consistency (``asc``) with all branches in flight: short branches vote first, the rest is cancelled.

Source: BetaSelfConsistency of its_hub (July 2026), with the rule of arXiv 2305.11860; spec 8.1.
Published operating point: threshold 0.95, any n, such as ``beta_on_completion:n=64`` (beta 1).
Replay captures it to within an interval: cancelled branches end the interval in which the rule fires, and those
that end in one interval vote in the order in which they were opened.
"""

from tts_gym.programs import (
    Episode,
    Knobs,
    advance,
    branch,
    can_branch,
    confidence,
    is_finished,
    latest,
    live,
    opened,
    top_two,
    width,
)


def schedule(beta: float) -> dict[str, float]:
    return {"n": max(1, round(64 * beta)), "threshold": 0.95}


def solve(episode: Episode, knobs: Knobs) -> int:
    while opened(episode) < knobs.n and can_branch(episode):
        branch(episode)
    votes: list[int] = []
    leader = -1
    arrivals = [i for i in range(opened(episode)) if is_finished(episode, i)]
    while True:
        for i in arrivals:
            votes.append(latest(episode, i))
            leader, first, second = top_two(votes)
            if confidence(first, second) > knobs.threshold:
                return leader
        if width(episode) == 0:
            return leader
        arrivals = [i for i in live(episode) if advance(episode, i)]
