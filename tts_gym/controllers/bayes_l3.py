"""Optimal Bayesian stopping, L = 3: read one branch after another until the leader is surely the likeliest answer.

Sure is what the votes of the leader, of the runner-up and of all others together make of a prior: how the answers to
earlier questions were spread. The prior knows nothing of what the answers are, or which were right.

Source: Huang et al. 2026, arXiv 2602.05395; spec 8.1.
Published operating points: delta 0.01 to 0.3; ``bayes_l3:max_samples=40,delta=0.05`` has the 40 samples of the paper.
The prior was fitted by ``docs/fit_bayes_prior.py`` on search pools only: AIME24 of the four Qwen3 models, 21 of the
30 questions (all but 0, 3, 5, 7, 10, 17, 18, 26, 29). Results on those are not out of sample.
Replay captures all of it. The paper has a prior per model and keeps all answers; this one is shared, and keeps four.
"""

import numpy as np

from tts_gym.programs import Episode, Knobs, can_branch, end_round, latest, opened, read, top_two

BRANCHES = 128
# Each question's votes: on how many questions so, then for the four leading answers. Others got a vote each.
# fmt: off
PRIOR = np.array([
    [12, 128, 0, 0, 0], [5, 127, 1, 0, 0], [1, 124, 1, 1, 1], [1, 122, 6, 0, 0], [1, 120, 3, 3, 1],
    [1, 119, 2, 1, 1], [1, 119, 1, 1, 1], [1, 118, 2, 1, 1], [1, 115, 9, 4, 0], [1, 114, 6, 1, 1],
    [1, 113, 8, 5, 1], [1, 112, 2, 2, 1], [1, 110, 7, 3, 1], [1, 110, 2, 2, 2], [1, 109, 4, 3, 3],
    [1, 108, 4, 3, 3], [1, 107, 4, 2, 2], [1, 106, 9, 4, 2], [1, 106, 3, 3, 3], [1, 105, 12, 6, 1],
    [1, 103, 16, 3, 1], [1, 102, 6, 5, 4], [1, 93, 11, 9, 4], [1, 92, 3, 3, 3], [1, 90, 7, 7, 6], [1, 88, 13, 4, 3],
    [1, 87, 10, 5, 3], [1, 83, 22, 16, 3], [1, 78, 11, 4, 3], [1, 73, 12, 3, 3], [1, 67, 11, 8, 7],
    [1, 65, 35, 14, 5], [1, 63, 10, 5, 5], [1, 61, 30, 9, 4], [1, 59, 16, 11, 9], [1, 57, 11, 10, 6],
    [1, 52, 21, 16, 11], [1, 51, 15, 12, 7], [1, 49, 24, 19, 17], [1, 47, 9, 7, 6], [1, 43, 20, 9, 9],
    [1, 42, 30, 13, 7], [1, 42, 18, 9, 7], [1, 41, 17, 8, 6], [1, 41, 16, 11, 9], [1, 40, 25, 5, 5],
    [1, 39, 32, 23, 6], [1, 35, 9, 8, 6], [1, 33, 22, 12, 9], [1, 31, 14, 10, 7], [1, 31, 10, 7, 7],
    [1, 30, 29, 13, 12], [1, 27, 18, 17, 11], [1, 26, 14, 13, 11], [1, 23, 22, 15, 9], [1, 22, 17, 7, 6],
    [1, 21, 17, 15, 14], [1, 20, 18, 13, 10], [1, 20, 17, 13, 13], [1, 20, 16, 7, 5], [1, 19, 13, 11, 9],
    [1, 19, 11, 10, 9], [1, 17, 12, 9, 5], [1, 15, 13, 7, 6], [1, 15, 10, 8, 6], [1, 14, 11, 10, 9],
    [1, 12, 11, 8, 8], [1, 4, 4, 4, 3], [1, 4, 4, 3, 3],
])
# fmt: on


def schedule(beta: float) -> dict[str, float]:
    return {"max_samples": max(2, round(64 * beta)), "delta": 0.05}


def solve(episode: Episode, knobs: Knobs) -> int:
    votes: list[int] = []
    leader = -1
    while opened(episode) < knobs.max_samples and can_branch(episode):
        answer = latest(episode, read(episode))
        end_round(episode)
        if answer >= 0:
            votes.append(answer)
            leader, first, second = top_two(votes)
            if first > second and posterior(first, second, len(votes)) >= 1 - knobs.delta:
                break
    return leader


def posterior(first: int, second: int, total: int) -> float:
    """The probability that the leader is the answer the model gives most often."""
    leader_is_mode, any_leads = 0.0, 0.0
    for row in range(len(PRIOR)):
        mode, any_answer = likelihoods(row, first, second, total - first)
        leader_is_mode += PRIOR[row, 0] * mode
        any_leads += PRIOR[row, 0] * any_answer
    return leader_is_mode / any_leads


def likelihoods(row: int, first: int, second: int, rest: int) -> tuple[float, float]:
    """How likely one answer has ``first`` votes and the others ``rest`` in all, the most of them ``second``.

    Up to a factor, and twice: when that answer is the mode, and when it is any. Votes are given to one answer after
    another, as in a product of polynomials: coefficient s of ``less`` is for s votes and none with ``second`` so far,
    of ``most`` for one with; ``led_less`` and ``led_most`` for the same with the leader among the answers.
    """
    single = 1.0 - PRIOR[row, 1:].sum() / BRANCHES
    less, most, led_less, led_most = np.zeros(rest + 1), np.zeros(rest + 1), np.zeros(rest + 1), np.zeros(rest + 1)
    term = np.ones(rest + 1)
    for s in range(1, rest + 1):
        term[s] = term[s - 1] * single / s
    for s in range(rest + 1):  # answers with one vote each
        if second == min(s, 1):
            most[s] = term[s]
        elif second > 0:
            less[s] = term[s]
    if first == 1:
        led_most = single * most
    mode = 0.0
    for k in range(PRIOR.shape[1] - 1, 0, -1):
        p = PRIOR[row, k] / BRANCHES
        if p > 0:
            lead = p ** float(first)
            mode = lead * most[rest]  # the last one, k = 1, is the mode
            for s in range(1, second + 1):
                term[s] = term[s - 1] * p / s
            for t in range(rest, -1 if k > 1 else rest - 1, -1):
                new_led_less, new_led_most = lead * less[t], lead * most[t]
                new_less, new_most = 0.0, 0.0
                for s in range(min(second - 1, t) + 1):
                    new_less += term[s] * less[t - s]
                    new_most += term[s] * most[t - s]
                    new_led_less += term[s] * led_less[t - s]
                    new_led_most += term[s] * led_most[t - s]
                if t >= second:
                    new_most += term[second] * (less[t - second] + most[t - second])
                    new_led_most += term[second] * (led_less[t - second] + led_most[t - second])
                less[t], most[t], led_less[t], led_most[t] = new_less, new_most, new_led_less, new_led_most
    return mode, led_most[rest]
