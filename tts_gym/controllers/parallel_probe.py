"""Parallel-Probe: step many branches side by side, prune lasting dissenters, stop when the vote holds still.

Every live branch is read after every interval. Finished branches keep voting, pruned ones do not. After
``warm_up`` passes a branch that disagreed with the winner ``patience`` times in a row is pruned; when the
winner stayed the same for ``stable`` passes it is the answer.

Source: arXiv 2602.03845, as evaluated by AutoTTS (arXiv 2605.08083): the vote of the active branches; spec 4.4.
Published operating point: ``parallel_probe:n=64`` with stable 40, patience 7, warm_up 15 (beta 1).
"""

from tts_gym.programs import (
    Episode,
    Knobs,
    active_votes,
    can_branch,
    latest,
    live,
    majority,
    opened,
    prune,
    start,
    step,
    width,
)

PASSES = 100


def schedule(beta: float) -> dict[str, float]:
    return {"n": max(2, round(64 * beta)), "stable": 40, "patience": 7, "warm_up": 15}


def solve(episode: Episode, knobs: Knobs) -> int:
    while opened(episode) < knobs.n and can_branch(episode):
        start(episode)
    dissent = [0] * opened(episode)
    previous, stable = -1, 0
    for t in range(PASSES):
        for i in live(episode):
            step(episode, i)
        votes = active_votes(episode)
        winner = majority(votes)
        if t >= knobs.warm_up and len(votes) > 1:
            before = width(episode)
            for i in live(episode):
                dissent[i] = dissent[i] + 1 if latest(episode, i) != winner else 0
                if dissent[i] >= knobs.patience:
                    prune(episode, i)
            if width(episode) < before:
                votes = active_votes(episode)
                winner = majority(votes)
        if len(votes) == 0:
            break
        stable = stable + 1 if winner == previous else 0
        previous = winner
        if stable >= knobs.stable or width(episode) == 0:
            break
    return previous
