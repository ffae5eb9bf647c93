"""ConSol, SPRT: draw branches until a sequential test says whether the leader's lead is more than chance.

The log-likelihood ratio of p1 against 1/2 is taken over the votes of leader and runner-up; the run ends when it
passes a bound of Wald's test. Each round draws the fewest branches that could end the run if all of them voted for
the leader. With the published numbers all this means: stop when the leader is three votes ahead.

Source: Lee et al. 2025, arXiv 2503.17587; spec 8.1.
Published operating point: ``consol_sprt:max_samples=256``, p1 0.5001, alpha 0.05, type_2 (its beta) 0.949976.
Replay captures all of it, up to as many branches as were recorded: 128 in the AutoTTS data.
"""

from math import log

from tts_gym.programs import Episode, Knobs, branch, can_branch, end_round, finish, opened, top_two


def schedule(beta: float) -> dict[str, float]:
    return {"max_samples": max(3, round(64 * beta)), "p1": 0.5001, "alpha": 0.05, "type_2": 0.949976}


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
    ratio = first * log(knobs.p1 / 0.5) + second * log((1 - knobs.p1) / 0.5)
    return ratio >= log((1 - knobs.type_2) / knobs.alpha) or ratio <= log(knobs.type_2 / (1 - knobs.alpha))
