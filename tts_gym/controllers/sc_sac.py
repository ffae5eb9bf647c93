"""SC@n + SAC: n branches, each cut when its answer holds still, then the majority of their answers.

Source: arXiv 2602.03845 (as a baseline, with SAC of arXiv 2506.02536); spec 4.6.
Published operating point: ``sc_sac:n=64,streak=14`` (beta 1).
"""

from tts_gym.programs import Episode, Knobs, can_branch, is_live, latest, majority, opened, prune, start, step


def schedule(beta: float) -> dict[str, float]:
    return {"n": max(1, round(64 * beta)), "streak": 14}


def solve(episode: Episode, knobs: Knobs) -> int:
    while opened(episode) < knobs.n and can_branch(episode):
        start(episode)
    return majority([settled_answer(episode, i, knobs.streak) for i in range(opened(episode))])


def settled_answer(episode: Episode, i: int, wanted: int) -> int:
    """Step branch i until its answer was the same ``wanted`` times in a row, or it ends."""
    last, streak = latest(episode, i), 1
    while is_live(episode, i) and streak < wanted:
        answer = step(episode, i)
        streak = streak + 1 if answer == last else 1
        last = answer
    if is_live(episode, i):
        prune(episode, i)
    return last
