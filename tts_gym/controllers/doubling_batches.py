"""Adaptive self-consistency in doubling batches: 2, 2, 4, 8, ... branches; stop when enough of the votes agree.

Each batch runs side by side and is as large as all before it, so that few rounds have to be waited for.

Source: AdaptiveSelfConsistency of its_hub (July 2026); spec 8.1.
Published operating point: share 0.75, any budget, such as ``doubling_batches:budget=64`` (beta 1).
Replay captures all of it, but its_hub breaks ties at random; here the first vote wins. A null answer is no vote,
but counts as a sample.
"""

from tts_gym.programs import Episode, Knobs, branch, can_branch, end_round, finish, opened, top_two


def schedule(beta: float) -> dict[str, float]:
    return {"budget": max(2, round(64 * beta)), "share": 0.75}


def solve(episode: Episode, knobs: Knobs) -> int:
    votes: list[int] = []
    leader = -1
    while opened(episode) < knobs.budget and can_branch(episode):
        begun = opened(episode)
        while opened(episode) < min(max(2, 2 * begun), knobs.budget) and can_branch(episode):
            branch(episode)
        for i in range(begun, opened(episode)):
            answer = finish(episode, i)
            if answer >= 0:
                votes.append(answer)
        end_round(episode)
        leader, first, _ = top_two(votes)
        if first > 0 and first / len(votes) >= knobs.share:
            break
    return leader
