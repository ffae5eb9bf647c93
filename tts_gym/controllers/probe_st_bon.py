"""Probe-ST-BoN, not ST-BoN but an analogue of it for replay: at one depth keep one branch of the majority.

n branches run to ``depth`` intervals and are read once. The first one that gives the majority's answer runs to its
end, the others are pruned, and its final answer is the answer.

Analogue of: Self-Truncation Best-of-N (ST-BoN), Wang et al. 2025, arXiv 2503.01422; spec 8.2.
Its width: ``probe_st_bon:n=10``. The depth has no published counterpart; on AIME24 less was no better than one branch.
ST-BoN truncates soon after the branches differ and keeps the one whose hidden states are most like the others'.
Replay has no hidden states; agreement of answers stands in for them, which is another method.
"""

from tts_gym.programs import (
    Episode,
    Knobs,
    active_votes,
    advance,
    branch,
    can_branch,
    finish,
    live,
    majority,
    opened,
    probe,
    prune,
)


def schedule(beta: float) -> dict[str, float]:
    return {"n": max(1, round(64 * beta)), "depth": 16}


def solve(episode: Episode, knobs: Knobs) -> int:
    while opened(episode) < knobs.n and can_branch(episode):
        branch(episode)
    for _ in range(1, knobs.depth):
        for i in live(episode):
            advance(episode, i)
    for i in live(episode):
        probe(episode, i)
    votes = active_votes(episode)
    if len(votes) == 0:
        return -1
    winner, kept = majority(votes), 0
    while votes[kept] != winner and winner >= 0:
        kept += 1
    for i in live(episode):
        if i != kept:
            prune(episode, i)
    return finish(episode, kept)
