"""Dual-Gate Confidence Control (DGCC): put settled branches to sleep; stop at either of two gates.

A live branch that keeps repeating its answer is stepped only every ``sleep``-th round. The hard gate asks
for high confidence in the finished answers; the soft gate for less, if most live branches agree too.

Source: AutoTTS round 3 (arXiv 2605.08083); spec 6.4.
Published operating points: beta 0, 0.3, 0.5 and 1 on Qwen3-1.7B AIME24.
"""

from math import ceil

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
        "warm_up": round(3 + 7 * beta),
        "patience": max(4, round(4 + 8 * beta)),
        "min_complete": max(2, round(2 + 4 * beta)),
        "thresh": 0.85 + 0.10 * beta,
        "soft": 0.60 + 0.15 * beta,
        "act": 0.70 + 0.10 * beta,
        "sleep": max(2, round(3 + 3 * beta)),
        "lock": max(3, round(4 + 2 * beta)),
        "gap": round(1 + 2 * beta),
    }


def solve(episode: Episode, knobs: Knobs) -> int:
    most = max(knobs.n_init, knobs.max_branch)
    finals: list[int] = []  # answers of finished branches, in order of completion: the votes
    dissent = [0] * most
    repeats = [0] * most
    asleep = [0] * most  # rounds spent asleep, ever
    start_many(episode, knobs.n_init, finals)

    for r in range(ROUNDS):
        warm = r >= knobs.warm_up
        for i in live(episode):
            if warm and repeats[i] >= knobs.lock:
                asleep[i] += 1
                if asleep[i] % knobs.sleep != 0:
                    continue
            before = latest(episode, i)
            answer = step(episode, i)
            repeats[i] = repeats[i] + 1 if answer == before else 0
            if is_finished(episode, i):
                finals.append(answer)

        leader, first, second = top_two(finals)
        conf = confidence(first, second)
        if warm and leader >= 0:
            prune_dissenters(episode, leader, dissent, knobs.patience, 2)
            if len(finals) >= knobs.min_complete:
                if conf >= knobs.thresh or (conf >= knobs.soft and agreement(episode, leader) >= knobs.act):
                    return leader

        resolved = width(episode) == 0
        new = 0
        if opened(episode) < knobs.max_branch and not resolved:
            if r >= max(1, knobs.warm_up // 2) and conf < knobs.thresh:
                share = first / len(finals) if len(finals) > 0 else 0.0
                wanted = max(1, ceil(knobs.gap * max(0.0, 1 - share)))
                new = start_many(episode, min(wanted, knobs.max_branch - opened(episode)), finals)
        if resolved and new == 0:
            break

    if len(finals) > 0:
        return majority(finals)
    return majority(active_votes(episode))


def agreement(episode: Episode, leader: int) -> float:
    """Share of live branches whose latest answer is the leader's; 0 when none is live."""
    branches = live(episode)
    agreeing = 0
    for i in branches:
        if latest(episode, i) == leader:
            agreeing += 1
    return agreeing / len(branches) if len(branches) > 0 else 0.0
