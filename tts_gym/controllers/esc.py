"""Early-stopping self-consistency (ESC): read branches window by window; stop at a unanimous window.

Only whole windows are drawn, so ``max_samples`` counts down to a multiple of ``window``. Without a
unanimous window the majority of all answers decides.

Source: Li et al. 2024, arXiv 2401.10480; spec 4.3.
Published operating point: ``esc:max_samples=64,window=8`` (beta 1).
"""

from tts_gym.programs import Episode, Knobs, branch, can_branch, end_round, finish, majority, opened


def schedule(beta: float) -> dict[str, float]:
    return {"max_samples": 8 * max(2, round(8 * beta)), "window": 8}


def solve(episode: Episode, knobs: Knobs) -> int:
    votes: list[int] = []
    for _ in range(knobs.max_samples // knobs.window):
        first = opened(episode)
        while opened(episode) < first + knobs.window and can_branch(episode):
            branch(episode)
        window = [finish(episode, i) for i in range(first, opened(episode))]
        end_round(episode)
        if len(window) > 0:
            if min(window) == max(window) >= 0:
                return window[0]
            votes.extend(window)
    return majority(votes)
