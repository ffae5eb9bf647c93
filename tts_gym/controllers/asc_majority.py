"""Adaptive-Consistency, majority rule: read one branch after another; stop when enough of the votes agree.

Enough is the share ``threshold``, of two votes at least.

Source: Aggarwal et al. 2023, arXiv 2305.11860, a stopping rule of the released code; spec 8.1.
Published operating point: ``asc_majority:max_samples=40`` with threshold 0.8.
Replay captures all of it. A null answer is no vote, but counts as a sample.
"""

from tts_gym.programs import Episode, Knobs, can_branch, end_round, latest, opened, read, top_two


def schedule(beta: float) -> dict[str, float]:
    return {"max_samples": max(2, round(64 * beta)), "threshold": 0.8}


def solve(episode: Episode, knobs: Knobs) -> int:
    votes: list[int] = []
    leader = -1
    while opened(episode) < knobs.max_samples and can_branch(episode):
        answer = latest(episode, read(episode))
        end_round(episode)
        if answer >= 0:
            votes.append(answer)
        leader, first, _ = top_two(votes)
        if len(votes) >= 2 and first / len(votes) >= knobs.threshold:
            break
    return leader
