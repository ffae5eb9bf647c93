"""Speculative Confidence Rollout (SCR): run ahead on branches that agree with the leader, widen on a plateau.

As IBC, but branches that agree with the leader of the finished answers take ``burst`` steps a round, and
several branches are opened at once when confidence has stalled.

Source: AutoTTS round 2 (arXiv 2605.08083); spec 6.3.
Published operating points: beta 0, 0.3, 0.5 and 1 on Qwen3-1.7B AIME24.
"""

from tts_gym.programs import (
    Episode,
    Knobs,
    active_votes,
    confidence,
    is_live,
    latest,
    live,
    majority,
    opened,
    prune_dissenters,
    start_many,
    step,
    top_two,
    width,
)

ROUNDS = 600
MOST_BRANCHES = 64


def schedule(beta: float) -> dict[str, float]:
    return {
        "n_init": max(2, round(2 + 6 * beta)),
        "max_branch": min(MOST_BRANCHES, round(4 + 60 * beta)),
        "warm_up": round(2 + 8 * beta),
        "patience": max(4, round(4 + 8 * beta)),
        "thresh": 0.85 + 0.12 * beta,
        "min_complete": max(2, round(2 + 4 * beta)),
        "burst": max(1, round(1 + 3 * beta)),
        "stall": max(2, round(2 + 6 * beta)),
        "burst_new": max(1, round(1 + 3 * beta)),
    }


def solve(episode: Episode, knobs: Knobs) -> int:
    most = max(knobs.n_init, knobs.max_branch)
    finals: list[int] = []  # answers of finished branches, in order of completion: the votes
    dissent = [0] * most
    previous, flat = 0.0, 0
    start_many(episode, knobs.n_init, finals)

    for r in range(ROUNDS):
        warm = r >= knobs.warm_up
        leader = majority(finals)
        deviant: list[int] = []
        for i in live(episode):
            if warm and leader >= 0 and latest(episode, i) != leader:
                deviant.append(i)
            else:
                run_ahead(episode, i, knobs.burst if warm else 1, finals)
        for i in deviant:
            run_ahead(episode, i, 1, finals)

        leader, first, second = top_two(finals)
        conf = confidence(first, second)
        if warm:
            if leader >= 0:
                prune_dissenters(episode, leader, dissent, knobs.patience, 2)
            if len(finals) >= knobs.min_complete and conf >= knobs.thresh:
                return leader

        flat = 0 if conf > previous + 1e-6 else flat + 1
        previous = conf
        resolved = width(episode) == 0
        new = 0
        if opened(episode) < knobs.max_branch and not resolved:
            if flat >= knobs.stall and warm:
                new = start_many(episode, min(knobs.burst_new, knobs.max_branch - opened(episode)), finals)
                flat = 0
            elif conf < knobs.thresh and r >= max(1, knobs.warm_up // 2):
                new = start_many(episode, 1, finals)
        if resolved and new == 0:
            break

    if len(finals) > 0:
        return majority(finals)
    return majority(active_votes(episode))


def run_ahead(episode: Episode, i: int, steps: int, finals: list[int]) -> None:
    """Take up to ``steps`` steps of branch i; if it ends, its answer becomes a vote."""
    for _ in range(steps):
        answer = step(episode, i)
        if not is_live(episode, i):
            finals.append(answer)
            break
