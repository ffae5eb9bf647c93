"""ConSol, mixture SPRT: as ``consol_sprt``, with a spread of alternatives to chance in place of one.

The leader's share of the two leading answers' votes is Beta(A, A) above 1/2, a very narrow prior. With the published
numbers the test stops where the SPRT does: when the leader is three votes ahead.

Source: Lee et al. 2025, arXiv 2503.17587; spec 8.1.
Published operating point: ``consol_msprt:max_samples=256``, alpha 0.05, type_2 (its beta) 0.94994.
Replay captures all of it, up to as many branches as were recorded: 128 in the AutoTTS data.
"""

from math import pi, sqrt

from tts_gym.programs import Episode, Knobs, branch, can_branch, end_round, finish, opened, top_two

A = 1_000_000


def schedule(beta: float) -> dict[str, float]:
    return {"max_samples": max(3, round(64 * beta)), "alpha": 0.05, "type_2": 0.94994}


def solve(episode: Episode, knobs: Knobs) -> int:
    votes: list[int] = []
    leader, first, second = top_two(votes)
    while not decided(first, second, knobs) and opened(episode) < knobs.max_samples and can_branch(episode):
        begun, batch = opened(episode), 1
        while begun + batch < knobs.max_samples and not decided(first + batch, second, knobs):
            batch += 1
        while opened(episode) < begun + batch and can_branch(episode):
            branch(episode)
        votes.extend([finish(episode, i) for i in range(begun, opened(episode))])
        end_round(episode)
        leader, first, second = top_two(votes)
    return leader


def decided(first: int, second: int, knobs: Knobs) -> bool:
    """Whether the evidence is strong enough: for the leader, or for a coin."""
    ratio = mixture_ratio(first, second)
    return ratio >= (1 - knobs.type_2) / knobs.alpha or ratio <= knobs.type_2 / (1 - knobs.alpha)


def mixture_ratio(first: int, second: int) -> float:
    """How much likelier the counts are under p ~ Beta(A, A) above 1/2 than under p = 1/2."""
    ratio = 1.0  # of the untruncated prior: a quotient of Beta functions as a product
    for k in range(first):
        ratio *= 2 * (A + k) / (2 * A + k)
    for k in range(second):
        ratio *= 2 * (A + k) / (2 * A + first + k)
    # the posterior's mass above 1/2: half of Beta(b, b), and a term more for each vote that the leader is ahead
    b = A + second
    above = 0.5
    term = (1 - 1 / (8 * b)) / (2 * sqrt(pi * b))
    for k in range(first - second):
        above += term
        term *= (2 * b + k) / (2 * (b + k + 1))
    return ratio * above / 0.5
