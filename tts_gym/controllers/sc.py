"""Self-consistency (SC): run n branches to their ends and take the majority of their final answers.

Source: Wang et al. 2022, arXiv 2203.11171; spec 4.1.
Published operating point: ``sc:n=64`` (beta 1).
"""

from tts_gym.programs import Episode, Knobs, branch, can_branch, finish, majority, opened


def schedule(beta: float) -> dict[str, float]:
    return {"n": max(1, round(64 * beta))}


def solve(episode: Episode, knobs: Knobs) -> int:
    while opened(episode) < knobs.n and can_branch(episode):
        branch(episode)
    return majority([finish(episode, i) for i in range(opened(episode))])
