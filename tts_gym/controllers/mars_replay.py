"""MARS with what replay has of it: stop once no expected change of mind could cost the leader its place.

``warm_up`` branches run to their ends; from them the program learns, within the episode, how likely a branch is
to change its answer (a logistic model). Then the others run side by side and are read every ``every`` intervals,
until the leader's margin over each other answer exceeds what the expected changes could take from it.

Source: Chen et al. 2026, arXiv 2606.12935; spec 8.1.
Published operating point: 512 branches, 16 of them warm-up, read every 2,048 tokens. ``mars_replay:n=128`` has as
many as were recorded; ``every`` 4 is 2,000 tokens in the AutoTTS data.
Replay has three of the five features: position, flips and streak, not confidence and its trend. How the fit is
penalised and gamma searched is ours where the spec does not say; see ``fit`` and ``calibrated``.
"""

from math import exp, sqrt

import numpy as np

from tts_gym.programs import (
    Episode,
    Knobs,
    active_votes,
    advance,
    branch,
    can_branch,
    depth,
    end_round,
    is_live,
    latest,
    live,
    majority,
    opened,
    probe,
    top_two,
    width,
)

FEATURES = 4  # 1, position, flips, streak; the last two count readings


def schedule(beta: float) -> dict[str, float]:
    return {"n": max(2, round(64 * beta)), "warm_up": 16, "every": 4}


def solve(episode: Episode, knobs: Knobs) -> int:
    while opened(episode) < min(knobs.warm_up, knobs.n) and can_branch(episode):
        branch(episode)
    warm = opened(episode)
    state = np.zeros((knobs.n, FEATURES))  # of every branch, at its last reading
    record: list[float] = []  # of the warm-up: FEATURES numbers per reading, whose it was, and the answer
    owners: list[int] = []
    answers: list[int] = []
    at = 0
    while width(episode) > 0:
        at += knobs.every
        read_all(episode, at, state)
        for i in live(episode):
            record.extend([state[i, f] for f in range(FEATURES)])
            owners.append(i)
            answers.append(latest(episode, i))
    end_round(episode)

    finals = [latest(episode, i) for i in range(warm)]
    readings = np.array(record).reshape(len(owners), FEATURES)
    center, scale = standard(readings)
    changed = [answers[r] != finals[owners[r]] for r in range(len(owners))]
    weights = fit((readings - center) / scale, changed)
    risks = [chance((readings[r] - center) / scale, weights) for r in range(len(owners))]
    gamma = calibrated(finals, owners, answers, readings[:, 1], risks)

    while opened(episode) < knobs.n and can_branch(episode):
        branch(episode)
    risk = [0.0] * opened(episode)
    at = 0
    while width(episode) > 0:
        at += knobs.every
        read_all(episode, at, state)
        for i in range(warm, opened(episode)):
            risk[i] = chance((state[i] - center) / scale, weights) if is_live(episode, i) else 0.0
        if certified(active_votes(episode), risk, gamma):
            break
    return majority(active_votes(episode))


def read_all(episode: Episode, at: int, state: np.ndarray) -> None:
    """Run every live branch to depth ``at`` and read it there, unless it ends before."""
    for i in live(episode):
        while is_live(episode, i) and depth(episode, i) < at:
            advance(episode, i)
        if is_live(episode, i):
            before = latest(episode, i)
            same = probe(episode, i) == before or state[i, 3] == 0
            state[i, 0] = 1
            state[i, 1] = at
            state[i, 2] += 0 if same else 1
            state[i, 3] = state[i, 3] + 1 if same else 1


def certified(votes: list[int], risk: list[float], gamma: float) -> bool:
    """Whether the leader's margin over every rival exceeds what it can be expected to lose.

    A branch that changes its answer, ``risk[i]`` being how likely that is, costs the leader 2 gamma if it voted for
    the leader and gamma if for a third answer; if for the rival, it gains 1. A rival without votes counts as well.
    """
    leader, first, _ = top_two(votes)
    if leader < 0:
        return False
    for rival in range(-1, max(votes) + 1):
        own = votes.count(rival) if rival >= 0 else 0
        if rival != leader and (own > 0 or rival < 0):
            loss = 0.0
            for i in range(len(votes)):
                if votes[i] == leader:
                    loss += 2 * gamma * risk[i]
                elif votes[i] == rival and rival >= 0:
                    loss -= risk[i]
                else:
                    loss += gamma * risk[i]
            if first - own <= loss:
                return False
    return True


def calibrated(
    finals: list[int], owners: list[int], answers: list[int], times: np.ndarray, risks: list[float]
) -> float:
    """The least gamma from 0.5, 0.6, ..., 1 with which the rule is never wrong on the warm-up, plus 1 / sqrt(warm-up).

    Wrong: to certify another answer than the warm-up branches' own majority in the end. At most 1.
    """
    for tenths in range(5, 10):
        gamma = tenths / 10
        wrong = False
        r = 0
        while r < len(owners):
            votes, risk, time = finals.copy(), [0.0] * len(finals), times[r]
            while r < len(owners) and times[r] == time:
                votes[owners[r]], risk[owners[r]] = answers[r], risks[r]
                r += 1
            if majority(votes) != majority(finals) and certified(votes, risk, gamma):
                wrong = True
        if not wrong:
            return min(1.0, gamma + 1 / sqrt(len(finals)))
    return 1.0


def standard(readings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each feature; 0 and 1 of the constant one."""
    center, scale, n = np.zeros(FEATURES), np.ones(FEATURES), max(1, len(readings))
    for f in range(1, FEATURES):
        for r in range(len(readings)):
            center[f] += readings[r, f] / n
        variance = 0.0
        for r in range(len(readings)):
            variance += (readings[r, f] - center[f]) * (readings[r, f] - center[f]) / n
        if variance > 1e-9:
            scale[f] = sqrt(variance)
    return center, scale


def fit(readings: np.ndarray, changed: list[bool]) -> np.ndarray:
    """Weights of a logistic model, by gradient descent on its mean loss plus half their squares over the readings."""
    weights = np.zeros(FEATURES)
    n = max(1, len(changed))
    for _ in range(200):
        slope = weights / n
        for r in range(len(changed)):
            error = chance(readings[r], weights) - changed[r]
            for f in range(FEATURES):
                slope[f] += error * readings[r, f] / n
        weights = weights - slope
    return weights


def chance(reading: np.ndarray, weights: np.ndarray) -> float:
    """The model's chance that a branch in this state ends with another answer."""
    total = 0.0
    for f in range(FEATURES):
        total += weights[f] * reading[f]
    return 1 / (1 + exp(-total))
