"""What a program may say. One source for every way a program runs.

``episode`` is whatever the program is run on: the reference engine (interpreted), a compiled episode,
or a live model. Branches are numbered 0, 1, ... in the order of opening. Answers are numbered 0, 1, ...
in the order in which the episode first revealed them; -1 is "no answer" and never a vote.

A move that is not legal raises ``IllegalMove``, costs nothing and ends the program; ask ``can_branch``
and ``is_live`` first.
"""

from __future__ import annotations

from math import exp, lgamma, log
from typing import Any, TypeAlias

Episode: TypeAlias = Any
"""The running episode. Opaque to programs: use the functions of this module."""
Knobs: TypeAlias = Any
"""What ``schedule(beta)`` returned, read as attributes: ``knobs.n``."""


# --- moves: these spend, or decide ------------------------------------------------------------------


def branch(episode: Episode) -> int:
    """BRANCH: open the next branch and generate its first interval, unread. Returns its index."""
    return episode.branch()


def advance(episode: Episode, i: int) -> bool:
    """CONTINUE(i): generate one more interval of branch i, unread. Returns whether it has now finished."""
    return episode.advance(i)


def probe(episode: Episode, i: int) -> int:
    """PROBE(i): read the current answer of a live branch, once per depth. Returns the answer."""
    return episode.probe(i)


def prune(episode: Episode, i: int) -> None:
    """PRUNE(i): give a live branch up, for good. Free; what it has cost stays counted."""
    episode.prune(i)


def end_round(episode: Episode) -> None:
    """Say that the next moves wait for all moves so far. Counts for sequential tokens only.

    Within a round branches run side by side, so a round takes as long as its longest branch.
    """
    episode.end_round()


# --- habits: several moves at once ------------------------------------------------------------------


def start(episode: Episode) -> int:
    """Open the next branch and read its first answer. Returns the branch's index."""
    i = branch(episode)
    if not is_finished(episode, i):
        probe(episode, i)
    return i


def step(episode: Episode, i: int) -> int:
    """Advance branch i by one interval and read its answer: one published "step". Returns the answer."""
    if not advance(episode, i):
        probe(episode, i)
    return latest(episode, i)


def finish(episode: Episode, i: int) -> int:
    """Run branch i to its end without reading on the way. Returns its final answer, -1 if the budget stopped it."""
    while can_advance(episode, i):
        advance(episode, i)
    return latest(episode, i) if is_finished(episode, i) else -1


def read(episode: Episode) -> int:
    """Open the next branch and run it to its end. Returns the branch's index; see ``latest`` for its answer."""
    i = branch(episode)
    finish(episode, i)
    return i


def start_many(episode: Episode, wanted: int, finals: list[int]) -> int:
    """Start up to ``wanted`` branches; answers of those that end at once are appended to ``finals``.

    Returns how many were opened.
    """
    count = 0
    while count < wanted and can_branch(episode):
        i = start(episode)
        if is_finished(episode, i):
            finals.append(latest(episode, i))
        count += 1
    return count


def prune_dissenters(episode: Episode, leader: int, dissent: list[int], patience: int, keep: int) -> None:
    """Count for how many calls in a row each live branch has disagreed with ``leader``; prune the stubborn.

    ``dissent[i]`` grows by one while branch i disagrees and falls back to 0 when it agrees. Then branches
    with ``dissent[i] >= patience`` are pruned, the most stubborn first, as long as more than ``keep`` live.
    """
    branches = live(episode)
    stubborn = 0
    for i in branches:
        dissent[i] = dissent[i] + 1 if latest(episode, i) != leader else 0
        if dissent[i] >= patience:
            stubborn += 1
    if stubborn > 0 and len(branches) > keep:
        for i in ranked(branches, dissent):
            if dissent[i] >= patience and width(episode) > keep:
                prune(episode, i)


# --- looks: free, they change nothing ---------------------------------------------------------------


def can_branch(episode: Episode) -> bool:
    """Whether BRANCH is legal: one is left, within the width and the budget."""
    return not episode.why_not_branch()


def can_advance(episode: Episode, i: int) -> bool:
    """Whether CONTINUE(i) is legal: branch i is live and an interval fits in the budget."""
    return not episode.why_not_advance(i)


def can_probe(episode: Episode, i: int) -> bool:
    """Whether PROBE(i) is legal: branch i is live, unread at this depth, and a probe fits in the budget."""
    return not episode.why_not_probe(i)


def opened(episode: Episode) -> int:
    """Branches opened so far."""
    return episode.opened


def latest(episode: Episode, i: int) -> int:
    """The answer of branch i that was read last (its final answer once finished), -1 for none."""
    return episode.latest[_branch_index(i)]


def is_finished(episode: Episode, i: int) -> bool:
    """Whether branch i has reached its natural end."""
    return episode.finished[_branch_index(i)]


def is_pruned(episode: Episode, i: int) -> bool:
    """Whether branch i was given up."""
    return episode.pruned[_branch_index(i)]


def is_live(episode: Episode, i: int) -> bool:
    """Whether branch i can still be extended: neither finished nor pruned."""
    return not (episode.finished[_branch_index(i)] or episode.pruned[i])


def width(episode: Episode) -> int:
    """How many branches are live."""
    return episode.live


def live(episode: Episode) -> list[int]:
    """The live branches, in the order in which they were opened."""
    return episode.live_branches()


def active_votes(episode: Episode) -> list[int]:
    """The latest answers of all branches that were not pruned, in opening order; -1 where none was read."""
    return [answer for answer, pruned in zip(episode.latest, episode.pruned, strict=True) if not pruned]


def depth(episode: Episode, i: int) -> int:
    """Intervals generated of branch i."""
    return episode.depth[_branch_index(i)]


def spent(episode: Episode) -> int:
    """Tokens generated so far."""
    return episode.tokens


def spent_on(episode: Episode, i: int) -> int:
    """Tokens generated so far by branch i."""
    return episode.spent[_branch_index(i)]


def _branch_index(i: int) -> int:
    if i < 0:  # lists would count from the end
        raise IndexError("list index out of range")
    return i


# --- statistics of votes ----------------------------------------------------------------------------


def top_two(votes: list[int]) -> tuple[int, int, int]:
    """The most frequent vote, its count, and the count of the runner-up (spec 3).

    Ties go to the vote that appears first in the list. ``(-1, 0, 0)`` when there is no vote.
    """
    most = -1
    for vote in votes:
        most = max(most, vote)
    counts = [0] * (most + 1)
    for vote in votes:
        if vote >= 0:
            counts[vote] += 1
    winner, first, second = -1, 0, 0
    for vote in votes:
        if vote >= 0 and vote != winner:
            count = counts[vote]
            if count > first:
                winner, first, second = vote, count, first
            elif count > second:
                second = count
    return winner, first, second


def majority(votes: list[int]) -> int:
    """The most frequent vote, ties to the first in the list; -1 when there is no vote (spec 3)."""
    return top_two(votes)[0]


def confidence(first: int, second: int) -> float:
    """The probability that the leader is truly ahead of the runner-up, given their votes (spec 3).

    ``1 - BetaCDF(0.5; first + 1, second + 1)`` under a uniform prior, in its closed form; 0 without votes.
    """
    if first <= 0:
        return 0.0
    n = first + second + 1
    if n > 1000:  # 0.5 ** n is about to underflow
        total = 0.0
        for k in range(first + 1):
            total += exp(lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) - n * log(2.0))
        return min(1.0, total)
    term = 0.5**n
    total = term
    for k in range(first):
        term *= (n - k) / (k + 1)
        total += term
    return min(1.0, total)


def ranked(branches: list[int], keys: list[int]) -> list[int]:
    """Sort ``branches`` in place from the largest ``keys[i]`` to the smallest, equal keys as they stood; returns it."""
    for position in range(1, len(branches)):
        i = branches[position]
        key = keys[i]
        at = position
        while at > 0 and keys[branches[at - 1]] < key:
            branches[at] = branches[at - 1]
            at -= 1
        branches[at] = i
    return branches
