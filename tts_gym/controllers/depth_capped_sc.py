"""Depth-capped self-consistency: n branches, each cut after ``cap`` intervals; what they say then is voted on.

Source: the cap of s1's budget forcing, Muennighoff et al. 2025, arXiv 2501.19393, under a vote; spec 8.1.
Operating point of the spec: ``depth_capped_sc:n=64,cap=40``, 20,000 tokens a branch (beta 0.5).
Replay captures the cap: the probe there is what forcing the end of thinking would give. The other half of s1,
"Wait" in place of the end, makes new text and cannot be replayed. As the spec's number does, it counts branches
that are read after every interval.
"""

from tts_gym.programs import Episode, Knobs, active_votes, can_branch, live, majority, opened, start, step


def schedule(beta: float) -> dict[str, float]:
    return {"n": 64, "cap": max(1, round(80 * beta))}


def solve(episode: Episode, knobs: Knobs) -> int:
    while opened(episode) < knobs.n and can_branch(episode):
        start(episode)
    for _ in range(1, knobs.cap):
        for i in live(episode):
            step(episode, i)
    return majority(active_votes(episode))
