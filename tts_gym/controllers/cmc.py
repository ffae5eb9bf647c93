"""Confidence Momentum Controller (CMC): stop once confidence in the finished answers is high and not falling.

Only finished branches vote. An exponential moving average (EMA) of the vote's confidence is taken twice a
round; the run stops when it is high and did not fall over the last few rounds, and branches are added while
it does not rise. Live branches that agree with the leader take ``burst`` steps a round, the others one;
those that keep disagreeing are pruned, but two are always kept.

Source: AutoTTS round 4, the discovered controller (arXiv 2605.08083); spec section 5.
Published operating points: beta 0.5 and beta 1.
"""

from tts_gym.programs import (
    Episode,
    Knobs,
    active_votes,
    confidence,
    is_finished,
    latest,
    live,
    majority,
    opened,
    prune_dissenters,
    ranked,
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
        "warm_up": max(2, round(2 + 8 * beta)),
        "patience": max(3, round(3 + 9 * beta)),
        "t_ema": max(2, round(2 + 6 * beta)),
        "alpha": round(0.70 - 0.40 * beta, 4),
        "thresh": round(0.85 + 0.12 * beta, 4),
        "slack": round(0.04 - 0.03 * beta, 4),
        "burst": max(1, round(1 + 2 * beta)),
        "widen": max(1, round(1 + 3 * beta)),
        "trend": round(0.04 - 0.03 * beta, 4),
        "min_complete": max(2, round(2 + 3 * beta)),
    }


def solve(episode: Episode, knobs: Knobs) -> int:
    most = max(knobs.n_init, knobs.max_branch)
    finals: list[int] = []  # answers of finished branches, in order of completion: the votes
    steps = [0] * most
    dissent = [0] * most
    ema = 0.0
    window: list[float] = []
    leader, first, second, counted = -1, 0, 0, 0
    start_many(episode, knobs.n_init, finals)

    for r in range(ROUNDS):
        warm = r >= knobs.warm_up
        if len(finals) > counted:
            leader, first, second = top_two(finals)
            counted = len(finals)
        ema = (1 - knobs.alpha) * ema + knobs.alpha * confidence(first, second)
        window.append(ema)
        if len(window) > knobs.t_ema:
            window.pop(0)

        if warm and leader >= 0:
            prune_dissenters(episode, leader, dissent, knobs.patience, 2)
        for i in ranked(live(episode), steps):
            allowance = knobs.burst if warm and leader >= 0 and latest(episode, i) == leader else 1
            while allowance > 0:
                answer = step(episode, i)
                steps[i] += 1
                allowance -= 1
                if is_finished(episode, i):
                    finals.append(answer)
                    allowance = 0

        if len(finals) > counted:
            leader, first, second = top_two(finals)
            counted = len(finals)
        ema = (1 - knobs.alpha) * ema + knobs.alpha * confidence(first, second)
        window[-1] = ema
        delta = window[-1] - window[0]
        if warm and len(finals) >= knobs.min_complete and ema >= knobs.thresh and delta >= -knobs.slack:
            return leader
        if width(episode) == 0:
            break

        room = min(knobs.widen, knobs.max_branch - opened(episode))
        if room > 0 and delta <= knobs.trend and r >= max(1, knobs.warm_up // 2) and ema < knobs.thresh:
            start_many(episode, room, finals)

    if len(finals) > 0:
        return majority(finals)
    return majority(active_votes(episode))
