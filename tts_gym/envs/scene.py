"""What a picture of an episode shows: the branch x depth grid as far as it was revealed, and as text.

``replayed`` turns an action log into a ``Scene``; ``text`` writes it, ``rendering.py`` draws it. A scene holds
only what the episode has revealed, and gold only once the episode was answered.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from tts_gym.engine.moves import Move
from tts_gym.engine.reference import Episode
from tts_gym.envs.layout import ENDED, FIRST_ANSWER, NO_ANSWER, NOTHING, PRUNED, UNREAD
from tts_gym.errors import UsageError
from tts_gym.pools.pool import Recording
from tts_gym.programs.primitives import active_votes, confidence, top_two
from tts_gym.programs.runner import Limits, reference_episode

Colour = tuple[int, int, int]

# --- the scene --------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Scene:
    """What a picture of an episode shows, and nothing else.

    Attributes:
        pool: name of the pool.
        question: index of the question.
        order: number of the order.
        delta: tokens per interval.
        max_branches: most branches the episode can open.
        rows: rows of the grid, at least ``max_branches``.
        columns: columns of the grid, the most intervals a branch can have.
        cells: int16[opened, columns + 2], a row per branch in opening order: 0 nothing, 1 an interval that was
            generated but not read, 4 read without an answer, 5 + n read answer n; after the last of them 2 if
            the branch has ended, 3 if it was pruned. The final answer stands one column after the last interval.
        latest: per branch, the answer read last, -1 for none.
        finished: bool[opened].
        pruned: bool[opened].
        votes: per answer number, how many branches that were not pruned hold it now.
        slots: per answer number, its colour in the palette; -1 for those that never had two votes and a tenth of all.
        leader: the answer with most votes, ties to the first in opening order; -1 for none.
        confidence: of the leader over the runner-up, see ``programs.confidence``.
        tokens: tokens generated.
        probes: probes made.
        cost: tokens plus ``probe_cost`` per probe.
        budget: most cost, None for no limit.
        last_move: the last move in words, empty before the first; a mark between rounds is none.
        touched: the branch of the last move, -1 for none.
        answered: the answer given, -1 for "no answer", None while the episode runs.
        correct: whether it was right; None before ANSWER, or without gold.
        right: bool[opened], whether each branch's latest answer is right; None before ANSWER, or without gold.
    """

    pool: str
    question: int
    order: int
    delta: int
    max_branches: int
    rows: int
    columns: int
    cells: NDArray[np.int16]
    latest: tuple[int, ...]
    finished: NDArray[np.bool_]
    pruned: NDArray[np.bool_]
    votes: tuple[int, ...]
    slots: tuple[int, ...]
    leader: int
    confidence: float
    tokens: int
    probes: int
    cost: float
    budget: float | None
    last_move: str
    touched: int
    answered: int | None
    correct: bool | None
    right: NDArray[np.bool_] | None

    @property
    def opened(self) -> int:
        """Branches opened."""
        return len(self.latest)

    @property
    def state_counts(self) -> dict[str, int]:
        """How many branches are live, finished and pruned."""
        finished, pruned = int(self.finished.sum()), int(self.pruned.sum())
        return {"live": self.opened - finished - pruned, "finished": finished, "pruned": pruned}


def replayed(
    recording: Recording,
    question: int,
    order: int,
    limits: Limits,
    log: Iterable[tuple[int, int]],
    *,
    pool: str = "",
    rows: int | None = None,
    columns: int | None = None,
    correct: NDArray[np.bool_] | None = None,
) -> Scene:
    """The scene after the moves of an action log (a whole one, or any beginning of one).

    Args:
        log: moves with their branch, or for ANSWER the answer number, as ``programs.runner.trace_program`` gives.
        pool: name to show.
        rows: rows of the grid; None for the most branches that can be opened.
        columns: columns of the grid; None for the most intervals in the pool.
        correct: bool[V], whether each answer code of this question is correct; read only if the log has ANSWER.

    Raises:
        IllegalMove: the log does not belong to this episode.
        UsageError: the grid has too few rows or columns.
    """
    episode = reference_episode(recording, question, order, limits)
    grid: list[list[int]] = []
    slots: list[int] = []
    words, touched = "", -1
    for move, operand in log:
        if move == Move.END_ROUND:
            episode.end_round()
            continue
        before = episode.latest[operand : operand + 1]
        words, touched = _play(episode, Move(move), operand, grid), -1 if move == Move.ANSWER else operand
        if move in (Move.PRUNE, Move.ANSWER) or episode.latest[operand : operand + 1] != before:
            _give_colours(episode, slots)

    most = min(episode.max_branches, recording.branches)
    rows = most if rows is None else rows
    columns = int(recording.intervals.max()) if columns is None else columns
    for name, size, needed in (("rows", rows, most), ("columns", columns, max(episode.depth, default=0))):
        if size < needed:
            raise UsageError(f"{name} should be at least {needed} to show this episode, found {size}")
    cells = np.zeros((episode.opened, columns + 2), dtype=np.int16)
    for i, row in enumerate(grid):
        cells[i, : len(row)] = row
    votes = active_votes(episode)
    leader, first, second = top_two(votes)
    good, right = None, None
    if episode.answered is not None and correct is not None:
        good = episode.answered >= 0 and bool(correct[episode.revealed[episode.answered]])
        right = np.array([n >= 0 and bool(correct[episode.revealed[n]]) for n in episode.latest], dtype=np.bool_)
    return Scene(
        pool=pool,
        question=question,
        order=order,
        delta=episode.delta,
        max_branches=most,
        rows=rows,
        columns=columns,
        cells=cells,
        latest=tuple(episode.latest),
        finished=np.array(episode.finished, dtype=np.bool_),
        pruned=np.array(episode.pruned, dtype=np.bool_),
        votes=tuple(votes.count(number) for number in range(len(episode.revealed))),
        slots=tuple(slots),
        leader=leader,
        confidence=confidence(first, second),
        tokens=episode.tokens,
        probes=episode.probes,
        cost=episode.cost,
        budget=episode.budget,
        last_move=words,
        touched=touched,
        answered=episode.answered,
        correct=good,
        right=right,
    )


def _play(episode: Episode, move: Move, operand: int, grid: list[list[int]]) -> str:
    """Make a move, write down what it left in the grid, and say it in words."""
    if move is Move.ANSWER:
        episode.answer(operand)
        return f"answered #{operand}" if operand >= 0 else "answered nothing"
    if move is Move.PRUNE:
        episode.prune(operand)
        grid[operand].append(PRUNED)
        return f"branch {operand} pruned"
    if move is Move.PROBE:
        number = episode.probe(operand)
        grid[operand][-1] = NO_ANSWER if number < 0 else FIRST_ANSWER + number
        return f"branch {operand} read: " + (f"#{number}" if number >= 0 else "no answer")
    if move is Move.BRANCH:
        operand = episode.branch()
        grid.append([])
    else:
        episode.advance(operand)
    if episode.finished[operand]:
        number = episode.latest[operand]
        grid[operand] += [NO_ANSWER if number < 0 else FIRST_ANSWER + number, ENDED]
        return f"branch {operand} ended with " + (f"#{number}" if number >= 0 else "no answer")
    grid[operand].append(UNREAD)
    return f"branch {operand} " + ("opened" if move is Move.BRANCH else "continued")


def _give_colours(episode: Episode, slots: list[int]) -> None:
    """Give answers that matter the next colour, for good: most answers are one branch's passing thought."""
    slots += [-1] * (len(episode.revealed) - len(slots))
    votes = [vote for vote in active_votes(episode) if vote >= 0]
    leader = top_two(votes)[0]
    for number in dict.fromkeys(votes):
        count = votes.count(number)
        enough = count >= 2 and (10 * count >= len(votes) or number == leader)
        if slots[number] < 0 and (enough or number == episode.answered):
            slots[number] = max(slots) + 1


# --- colours ----------------------------------------------------------------------------------------


def rgb(*codes: str) -> tuple[Colour, ...]:
    return tuple((int(c[:2], 16), int(c[2:4], 16), int(c[4:], 16)) for c in codes)


# Light on dark, chosen by simulating protanopia, deuteranopia and tritanopia: the first six stay far apart.
PALETTE = rgb(
    "F5A83A", "4FA9F0", "E8639B", "BDF0CF", "7C63E6", "C94F2A",
    "FBE35A", "12806E", "A9C7FF", "FFB3A0", "A83E9C", "93A84A"
)  # fmt: skip
_PASSING = rgb("5F6877", "6E6874", "596B6B", "6F6A60", "625F7A", "74635F")


def answer_colour(scene: Scene, number: int) -> Colour:
    """The colour of an answer, the same through an episode from when it first matters (``Scene.slots``)."""
    slot = scene.slots[number]
    return PALETTE[slot % len(PALETTE)] if slot >= 0 else _PASSING[number % len(_PASSING)]


# --- text -------------------------------------------------------------------------------------------

_SYMBOLS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def text(scene: Scene, *, colour: bool = True) -> str:
    """The scene in plain characters, a line per opened branch, for ``ansi``.

    A branch's line is its index, ``>`` if it is with the leader, and its cells: ``-`` not read, ``.`` read without
    an answer, ``|`` ended, ``/`` pruned, else the answer's number (10 is ``a``, 36 ``A``, from 62 on ``+``); then
    its state and latest answer.

    Args:
        colour: colour the answers by ANSI escape codes.
    """
    budget = "" if scene.budget is None else f" of {scene.budget:,.0f}"
    states = ", ".join(f"{count} {state}" for state, count in scene.state_counts.items())
    lines = [
        f"{scene.pool or 'episode'}, question {scene.question}, order {scene.order}",
        f"{scene.tokens:,} tokens, {scene.probes:,} probes, cost {scene.cost:,.0f}{budget}",
        f"{scene.opened} of {scene.max_branches} branches: {states}",
    ]
    if scene.leader >= 0:
        votes = f"{scene.votes[scene.leader]} of {sum(scene.votes)} votes"
        lines.append(f"leader #{scene.leader}, {votes}, confidence {percent(scene.confidence)}")
    used = int((scene.cells > NOTHING).sum(axis=1).max(initial=0))
    for i, row in enumerate(scene.cells[:, :used].tolist()):
        pruned = bool(scene.pruned[i])
        leads = scene.leader >= 0 and scene.latest[i] == scene.leader and not pruned
        state = "pruned" if pruned else "finished" if scene.finished[i] else "live"
        words = [state, f"#{scene.latest[i]}" if scene.latest[i] >= 0 else "no answer"]
        if scene.right is not None:
            words.append("right" if scene.right[i] else "wrong")
        cells = "".join(_symbols(scene, code, len(list(run)), colour, pruned) for code, run in groupby(row))
        lines.append(f"{i:3} {'>' if leads else ' '} {cells}  {' '.join(words)}")
    if scene.answered is not None:
        verdict = "" if scene.correct is None else ": right" if scene.correct else ": wrong"
        lines.append(scene.last_move + verdict)
    elif scene.last_move:
        lines.append(f"last: {scene.last_move}")
    return "\n".join(lines)


def _symbols(scene: Scene, code: int, count: int, colour: bool, pruned: bool) -> str:
    if code < FIRST_ANSWER:
        return " -|/."[code] * count
    number = code - FIRST_ANSWER
    symbols = (_SYMBOLS[number] if number < len(_SYMBOLS) else "+") * count
    if not colour:
        return symbols
    red, green, blue = (round(part / 51) for part in answer_colour(scene, number))  # the 6 x 6 x 6 cube
    return f"\x1b[{'2;' if pruned else ''}38;5;{16 + 36 * red + 6 * green + blue}m{symbols}\x1b[0m"


def percent(share: float) -> str:
    """A share as people read it; never 100% when it is not."""
    return "> 99.9%" if 0.999 < share < 1 else f"{share:.1%}"
