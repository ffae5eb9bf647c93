"""Speculative Depth-Gated Voting (SDGV): a branch that repeats its answer is locked and never stepped again.

Locked branches weigh more in the vote. Locking early is why this is so cheap and so often wrong.

Source: AutoTTS round 0 (arXiv 2605.08083); spec 6.1.
Published operating points: beta 0, 0.3, 0.5 and 1 on Qwen3-1.7B AIME24.
"""

from tts_gym.programs import (
    Episode,
    Knobs,
    can_branch,
    confidence,
    is_finished,
    is_live,
    latest,
    opened,
    prune,
    start,
    step,
)

ROUNDS = 200
MOST_BRANCHES = 64


def schedule(beta: float) -> dict[str, float]:
    return {
        "warm_up": round(2 + 6 * beta),
        "lock_len": max(1, round(2 + 2 * beta)),
        "patience": max(3, round(3 + 5 * beta)),
        "thresh": 0.85 + 0.13 * beta,
        "cohort": min(MOST_BRANCHES, round(4 + 28 * beta)),
        "boost": 1 + 3 * beta,
        "min_locked": 0.4 + 0.3 * beta,
    }


def solve(episode: Episode, knobs: Knobs) -> int:
    most = max(2, knobs.cohort)
    locked = [False] * most
    out = [False] * most  # lost its vote; a finished branch can, though there is nothing to prune
    streak = [1] * most
    dissent = [0] * most
    for _ in range(max(2, knobs.cohort // 4)):
        widen(episode, locked, knobs.lock_len)

    for r in range(ROUNDS):
        for i in range(opened(episode)):
            if not locked[i] and not out[i]:
                before = latest(episode, i)
                streak[i] = streak[i] + 1 if step(episode, i) == before else 1
                locked[i] = is_finished(episode, i) or streak[i] >= knobs.lock_len

        voters = [i for i in range(opened(episode)) if not out[i]]
        winner, conf = weighted_vote(episode, voters, locked, knobs.boost)
        if r >= knobs.warm_up and winner >= 0 and len(voters) > 1:
            for i in voters:
                if locked[i]:
                    dissent[i] = dissent[i] + 1 if latest(episode, i) != winner else 0
                    if dissent[i] >= knobs.patience:
                        out[i] = True
                        if is_live(episode, i):
                            prune(episode, i)
            voters = [i for i in voters if not out[i]]
            winner, conf = weighted_vote(episode, voters, locked, knobs.boost)

        sure = [i for i in voters if locked[i]]
        done = len(sure) == len(voters)
        many = len(sure) >= 2 and len(sure) / len(voters) >= knobs.min_locked
        if (r >= knobs.warm_up and many and conf >= knobs.thresh) or done:
            return winner
        if opened(episode) < knobs.cohort and r >= max(1, knobs.warm_up // 2) and conf < knobs.thresh:
            widen(episode, locked, knobs.lock_len)
    return weighted_vote(episode, [i for i in range(opened(episode)) if not out[i]], locked, knobs.boost)[0]


def widen(episode: Episode, locked: list[bool], lock_len: int) -> None:
    """Start one more branch if there is one."""
    if can_branch(episode):
        i = start(episode)
        locked[i] = is_finished(episode, i) or lock_len <= 1


def weighted_vote(episode: Episode, voters: list[int], locked: list[bool], boost: float) -> tuple[int, float]:
    """The heaviest answer and the confidence in it, weights scaled so that the voters weigh one each.

    A locked branch weighs ``boost``, any other 1; ties go to the answer of the earlier branch.
    """
    weight = [0.0] * len(voters)  # by the first voter who gave the answer
    for k in range(len(voters)):
        answer = latest(episode, voters[k])
        if answer >= 0:
            first = 0
            while latest(episode, voters[first]) != answer:
                first += 1
            weight[first] += boost if locked[voters[k]] else 1.0
    best, top, second = -1, 0.0, 0.0
    for k in range(len(voters)):
        if weight[k] > top:
            best, top, second = k, weight[k], top
        elif weight[k] > second:
            second = weight[k]
    if best < 0:
        return -1, 0.0
    scale = len(voters) / sum(weight)
    conf = confidence(max(1, round(top * scale)), max(0, round(second * scale)))
    return latest(episode, voters[best]), conf
