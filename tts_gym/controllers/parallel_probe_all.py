"""Parallel-Probe, all-chains vote: as parallel_probe, but pruned branches keep voting with their last answer.

A branch is pruned only while more than one is live, and pruning never changes the winner of the pass.

Source: arXiv 2602.03845, as first released; spec 4.5. It produced the Qwen3-1.7B row of the AutoTTS table.
Published operating point: ``parallel_probe_all:n=64`` with stable 40, patience 7, warm_up 15 (beta 1).
"""

from tts_gym.programs import Episode, Knobs, can_branch, latest, live, majority, opened, prune, start, step, width

PASSES = 100


def schedule(beta: float) -> dict[str, float]:
    return {"n": max(2, round(64 * beta)), "stable": 40, "patience": 7, "warm_up": 15}


def solve(episode: Episode, knobs: Knobs) -> int:
    while opened(episode) < knobs.n and can_branch(episode):
        start(episode)
    dissent = [0] * opened(episode)
    votes = [-1] * opened(episode)
    previous, stable = -1, 0
    for t in range(PASSES):
        for i in live(episode):
            step(episode, i)
        for i in range(opened(episode)):
            votes[i] = latest(episode, i)
        winner = majority(votes)
        if t >= knobs.warm_up and width(episode) > 1:
            for i in live(episode):
                dissent[i] = dissent[i] + 1 if latest(episode, i) != winner else 0
                if dissent[i] >= knobs.patience:
                    prune(episode, i)
        stable = stable + 1 if winner == previous else 0
        previous = winner
        if stable >= knobs.stable or width(episode) == 0:
            break
    return previous
