"""Dynasor's certainty rule on the probing grid: n branches, each cut when its last probes agree, then a vote.

A branch is certain once its last ``window`` probes gave the same answer, and an answer at all.

Source: Fu et al. 2024, arXiv 2412.20993 (Certaindex); spec 8.1.
Published operating points, for one branch: mild, low, mid and high effort wait for 8, 5, 3 and 2 probes that are 64
tokens apart, crazy for 2 that are 32 apart; ``dynasor_grid:n=1,window=8`` and so on. The default here is mild.
Replay probes after every interval (500 tokens in the AutoTTS data), so a window spans eight times as many tokens.
The hedge words that also forbid to stop cannot be seen, and "ERR", to a pool a string like any other, counts as an
answer. What is left is ``sc_sac``, except that null answers are no reason to stop.
"""

from tts_gym.programs import Episode, Knobs, can_branch, is_live, latest, majority, opened, prune, start, step


def schedule(beta: float) -> dict[str, float]:
    return {"n": max(1, round(64 * beta)), "window": 8}


def solve(episode: Episode, knobs: Knobs) -> int:
    while opened(episode) < knobs.n and can_branch(episode):
        start(episode)
    return majority([certain_answer(episode, i, knobs.window) for i in range(opened(episode))])


def certain_answer(episode: Episode, i: int, window: int) -> int:
    """Step branch i until its last ``window`` answers are the same one, or it ends."""
    last, streak = latest(episode, i), 1
    while is_live(episode, i) and (streak < window or last < 0):
        answer = step(episode, i)
        streak = streak + 1 if answer == last else 1
        last = answer
    if is_live(episode, i):
        prune(episode, i)
    return last
