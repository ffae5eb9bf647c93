"""Adaptive-Consistency (ASC): read one branch after another; stop when the leader is surely ahead.

Sure means that the probability that the leader is truly ahead of the runner-up, given their votes,
exceeds ``threshold``; with 0.95 the earliest stop is at four equal answers.

Source: Aggarwal et al. 2023, arXiv 2305.11860; spec 4.2.
Published operating point: ``asc:max_samples=64`` with threshold 0.95 (beta 1).
Its samples wait for each other; like the published tables, this file counts them as one round.
"""

from tts_gym.programs import Episode, Knobs, can_branch, confidence, latest, majority, read, top_two


def schedule(beta: float) -> dict[str, float]:
    return {"max_samples": max(2, round(64 * beta)), "threshold": 0.95}


def solve(episode: Episode, knobs: Knobs) -> int:
    votes: list[int] = []
    while len(votes) < knobs.max_samples and can_branch(episode):
        answer = latest(episode, read(episode))
        if answer < 0:
            break
        votes.append(answer)
        leader, first, second = top_two(votes)
        if len(votes) >= 2 and confidence(first, second) > knobs.threshold:
            return leader
    return majority(votes)
