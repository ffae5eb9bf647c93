"""Answer consistency on one branch (SAC): read it after every interval; stop when its answer holds still.

It holds still once it was the same ``streak`` times in a row; otherwise the branch runs to its end.

Source: Liu & Wang 2025, arXiv 2506.02536; spec 4.6.
Published operating point: ``sac:streak=14``, 7,000 tokens of stability (beta 0.5).
"""

from tts_gym.programs import Episode, Knobs, can_branch, is_live, latest, start, step


def schedule(beta: float) -> dict[str, float]:
    return {"streak": max(2, round(28 * beta))}


def solve(episode: Episode, knobs: Knobs) -> int:
    if not can_branch(episode):
        return -1
    i = start(episode)
    last, streak = latest(episode, i), 1
    while is_live(episode, i) and streak < knobs.streak:
        answer = step(episode, i)
        streak = streak + 1 if answer == last else 1
        last = answer
    return last
