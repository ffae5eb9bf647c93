"""ConSol, p-value: draw branches until a coin would rarely give the leader as many of the votes.

A one-sided binomial test of leader against runner-up, repeated after every round and not corrected for that. Each
round draws the fewest branches that could end the run if all of them voted for the leader, five at first.

Source: Lee et al. 2025, arXiv 2503.17587; spec 8.1.
Published operating point: ``consol_pvalue:max_samples=40`` with alpha 0.05.
Replay captures all of it.
"""

from tts_gym.programs import Episode, Knobs, branch, can_branch, end_round, finish, opened, top_two


def schedule(beta: float) -> dict[str, float]:
    return {"max_samples": max(3, round(64 * beta)), "alpha": 0.05}


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
    """Whether a coin gives the leader so many of the votes with probability alpha at most."""
    return p_value(first, second) <= knobs.alpha


def p_value(first: int, second: int) -> float:
    """P(at least ``first`` heads in ``first + second`` tosses), summed over the tails."""
    tosses = first + second
    term = 0.5 ** float(tosses)
    total = term
    for tails in range(second):
        term *= (tosses - tails) / (tails + 1)
        total += term
    return total
