"""Adaptive-Consistency, entropy rule: read one branch after another; stop when the votes are concentrated.

That is when their entropy is at most ``threshold`` times the largest that so many different answers can have.
A single answer is held against one phantom vote for another, so the earliest stop is at four equal answers.

Source: Aggarwal et al. 2023, arXiv 2305.11860, a stopping rule of the released code; spec 8.1.
Published operating point: ``asc_entropy:max_samples=40`` with threshold 0.75.
Replay captures all of it. A null answer is no vote, but counts as a sample.
"""

from math import log

from tts_gym.programs import Episode, Knobs, can_branch, end_round, latest, majority, opened, read


def schedule(beta: float) -> dict[str, float]:
    return {"max_samples": max(2, round(64 * beta)), "threshold": 0.75}


def solve(episode: Episode, knobs: Knobs) -> int:
    votes: list[int] = []
    while opened(episode) < knobs.max_samples and can_branch(episode):
        answer = latest(episode, read(episode))
        end_round(episode)
        if answer >= 0:
            votes.append(answer)
        if len(votes) >= 2 and spread(votes) <= knobs.threshold:
            break
    return majority(votes)


def spread(votes: list[int]) -> float:
    """Entropy of the votes over that of equally frequent answers: 0 is agreement, 1 is chance."""
    counts = [0] * (max(votes) + 1)
    for vote in votes:
        counts[vote] += 1
    counts = [count for count in counts if count > 0]
    if len(counts) == 1:
        counts.append(1)
    total = sum(counts)
    entropy = 0.0
    for count in counts:
        entropy -= count / total * log(count / total)
    return entropy / log(len(counts))
