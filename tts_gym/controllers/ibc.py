"""Interleaved Branch-Complete (IBC): step all live branches in turn; let only finished ones vote.

Until the finished answers agree well enough, one branch is added per round; live branches that keep
disagreeing with the leader are pruned, but two are always kept.

Source: AutoTTS round 1 (arXiv 2605.08083); spec 6.2.
Published operating points: beta 0, 0.3, 0.5 and 1 on Qwen3-1.7B AIME24.
"""

from tts_gym.programs import (
    Episode,
    Knobs,
    active_votes,
    confidence,
    is_finished,
    live,
    majority,
    opened,
    prune_dissenters,
    start_many,
    step,
    top_two,
    width,
)

ROUNDS = 500
MOST_BRANCHES = 64


def schedule(beta: float) -> dict[str, float]:
    return {
        "n_init": max(2, round(2 + 6 * beta)),
        "max_branch": min(MOST_BRANCHES, round(4 + 60 * beta)),
        "warm_up": round(2 + 8 * beta),
        "patience": max(4, round(5 + 7 * beta)),
        "thresh": 0.85 + 0.12 * beta,
        "min_complete": max(2, round(2 + 4 * beta)),
    }


def solve(episode: Episode, knobs: Knobs) -> int:
    most = max(knobs.n_init, knobs.max_branch)
    finals: list[int] = []  # answers of finished branches, in order of completion: the votes
    dissent = [0] * most
    start_many(episode, knobs.n_init, finals)

    for r in range(ROUNDS):
        for i in live(episode):
            answer = step(episode, i)
            if is_finished(episode, i):
                finals.append(answer)

        leader, first, second = top_two(finals)
        conf = confidence(first, second)
        if r >= knobs.warm_up:
            if leader >= 0:
                prune_dissenters(episode, leader, dissent, knobs.patience, 2)
            if len(finals) >= knobs.min_complete and conf >= knobs.thresh:
                return leader

        resolved = width(episode) == 0
        if opened(episode) < knobs.max_branch and r >= max(1, knobs.warm_up // 2) and conf < knobs.thresh:
            if start_many(episode, 1, finals) > 0:
                resolved = False
        if resolved:
            break

    if len(finals) > 0:
        return majority(finals)
    return majority(active_votes(episode))
