"""ES-CoT on the probing grid: n branches, each cut when its answer suddenly holds much longer, then a vote.

Equal answers in a row are a run. A branch is cut when its run is longer than the run before by ``jump`` or more,
and by significantly more than earlier runs were (a t-test at level ``p``).

Source: Mao et al. 2025, arXiv 2509.14004; spec 8.1.
Published operating points: jump 10 and p 0.05, ``es_cot_grid:n=1`` and a vote of several (ES-CoT+SC).
Replay probes after every interval (500 tokens in the AutoTTS data), the paper after every step of the reasoning.
With fewer than two earlier jumps there is nothing to test, and ``jump`` alone decides: our choice.
"""

from math import atan, pi, sqrt

from tts_gym.programs import Episode, Knobs, can_branch, is_live, latest, majority, opened, prune, start, step


def schedule(beta: float) -> dict[str, float]:
    return {"n": max(1, round(64 * beta)), "jump": 10, "p": 0.05}


def solve(episode: Episode, knobs: Knobs) -> int:
    while opened(episode) < knobs.n and can_branch(episode):
        start(episode)
    return majority([converged_answer(episode, i, knobs.jump, knobs.p) for i in range(opened(episode))])


def converged_answer(episode: Episode, i: int, jump: int, p: float) -> int:
    """Step branch i until its run of equal answers has jumped, or it ends."""
    last, run, before = latest(episode, i), 1, 0
    jumps: list[int] = []  # of complete runs over the run before
    while is_live(episode, i) and (before == 0 or run - before < jump or not stands_out(run - before, jumps, p)):
        answer = step(episode, i)
        if answer == last:
            run += 1
        else:
            if before > 0:
                jumps.append(run - before)
            last, run, before = answer, 1, run
    if is_live(episode, i):
        prune(episode, i)
    return last


def stands_out(jump: int, jumps: list[int], p: float) -> bool:
    """Whether the mean of the earlier jumps is below ``jump`` at level p, by a one-sided t-test."""
    n = len(jumps)
    if n < 2:
        return True
    mean = sum(jumps) / n
    squares = 0.0
    for earlier in jumps:
        squares += (earlier - mean) ** 2
    if squares == 0.0:
        return jump > mean
    return upper_tail((jump - mean) / sqrt(squares / (n - 1) / n), n - 1) < p


def upper_tail(t: float, freedom: int) -> float:
    """P(T > t) for Student's t with whole degrees of freedom: a finite sum."""
    cosine = 1 / sqrt(1 + t * t / freedom)
    sine = t / sqrt(freedom) * cosine
    term = cosine if freedom % 2 == 1 else 1.0
    inside = 0.0
    for k in range(freedom % 2 + 2, freedom + 1, 2):
        inside += term
        term *= (k - 1) / k * cosine * cosine
    inside *= sine
    if freedom % 2 == 1:
        inside = (inside + atan(t / sqrt(freedom))) * 2 / pi
    return 0.5 - inside / 2
