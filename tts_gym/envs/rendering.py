"""Pictures of an episode: the branch x depth grid as an image, as text, and in a window.

``replayed`` turns an action log into a ``Scene``; ``picture``, ``text`` and ``Window`` show it. A scene holds
only what the episode has revealed, and gold only once the episode was answered. Pillow and pygame are imported
where they are used: ``pip install 'tts-gym[render]'``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tts_gym.engine.moves import Move
from tts_gym.engine.reference import Episode
from tts_gym.errors import UsageError
from tts_gym.pools.pool import Recording
from tts_gym.programs.primitives import active_votes, confidence, top_two
from tts_gym.programs.runner import Limits, reference_episode

if TYPE_CHECKING:
    from PIL import Image, ImageFont

Colour = tuple[int, int, int]

# Codes of Scene.cells. From ANSWER on the code says which answer was read: ANSWER + number.
NOTHING, UNREAD, ENDED, PRUNED, NO_ANSWER, ANSWER = range(6)

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
        grid[operand][-1] = NO_ANSWER if number < 0 else ANSWER + number
        return f"branch {operand} read: " + (f"#{number}" if number >= 0 else "no answer")
    if move is Move.BRANCH:
        operand = episode.branch()
        grid.append([])
    else:
        episode.advance(operand)
    if episode.finished[operand]:
        number = episode.latest[operand]
        grid[operand] += [NO_ANSWER if number < 0 else ANSWER + number, ENDED]
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


def _rgb(*codes: str) -> tuple[Colour, ...]:
    return tuple((int(c[:2], 16), int(c[2:4], 16), int(c[4:], 16)) for c in codes)


# Light on dark, chosen by simulating protanopia, deuteranopia and tritanopia: the first six stay far apart.
PALETTE = _rgb(
    "F5A83A", "4FA9F0", "E8639B", "BDF0CF", "7C63E6", "C94F2A",
    "FBE35A", "12806E", "A9C7FF", "FFB3A0", "A83E9C", "93A84A"
)  # fmt: skip
_PASSING = _rgb("5F6877", "6E6874", "596B6B", "6F6A60", "625F7A", "74635F")
_GROUND, _BAND, _FAINT, _LINE, _DIM, _TEXT, _GOOD, _BAD = _rgb(
    "11141B", "1B202B", "222834", "4A5364", "8C95A6", "EEF1F6", "8BE8B0", "F0766B"
)


def answer_colour(scene: Scene, number: int) -> Colour:
    """The colour of an answer, the same through an episode from when it first matters (``Scene.slots``)."""
    slot = scene.slots[number]
    return PALETTE[slot % len(PALETTE)] if slot >= 0 else _PASSING[number % len(_PASSING)]


# --- the picture ------------------------------------------------------------------------------------

_MARGIN, _GUTTER, _HEAD, _FOOT, _GAP, _LEGEND, _PANEL, _PANEL_HEIGHT = 24, 36, 72, 62, 30, 530, 236, 432
_AFTER = 3  # columns after the last interval: the final answer, how the branch ended, whether it was right
_MOST_BARS = 7


@dataclass(frozen=True)
class Layout:
    """Where things are, in pixels; the same for every picture with as many rows and columns.

    The cell of branch i and column c has its upper left corner at ``(left + c * cell_width, top + i * cell_height)``.
    ``right`` and ``floor`` end the grid, ``bottom`` the grid and the panel beside it, which begins at ``panel``.
    """

    rows: int
    cell_width: int
    cell_height: int
    left: int
    top: int
    right: int
    floor: int
    panel: int
    bottom: int
    width: int
    height: int


def layout(rows: int, columns: int) -> Layout:
    """The layout for so many rows and columns: large cells for few, small ones for many."""
    w = min(max(860 // (columns + _AFTER), 5), 72)
    h = min(max(590 // rows, 5), 64)
    w, h = min(w, h * 3), min(h, w * 3 // 2)
    left, top = _MARGIN + _GUTTER, _HEAD
    right, floor = left + (columns + _AFTER) * w, top + rows * h
    panel, bottom = max(right, left + _LEGEND) + _GAP, max(floor, top + _PANEL_HEIGHT)
    width, height = panel + _PANEL + _MARGIN, bottom + _FOOT
    # Video encoders want even sizes.
    return Layout(rows, w, h, left, top, right, floor, panel, bottom, width + width % 2, height + height % 2)


def picture(scene: Scene) -> NDArray[np.uint8]:
    """The scene as an image, uint8[H, W, 3]; of one size through an episode.

    Raises:
        UsageError: Pillow is not installed.
    """
    _need("PIL", "Pillow", "drawing")
    from PIL import Image

    plan = layout(scene.rows, scene.columns)
    canvas = np.empty((plan.height, plan.width, 3), dtype=np.uint8)
    canvas[:] = _GROUND
    _draw_cells(canvas, scene, plan)
    pen = _Pen(Image.fromarray(canvas))
    _write_numbers(pen, scene, plan)
    _write_axes(pen, scene, plan)
    _write_header(pen, scene, plan)
    _write_panel(pen, scene, plan)
    _write_legend(pen, scene, plan)
    return np.array(pen.image)


def _draw_cells(canvas: NDArray[np.uint8], scene: Scene, plan: Layout) -> None:
    w, h = plan.cell_width, plan.cell_height
    grid = canvas[plan.top : plan.floor, plan.left : plan.right]
    if scene.touched >= 0:
        grid[scene.touched * h : (scene.touched + 1) * h] = _BAND
    for column in range(0, scene.columns + 1, _tick_step(plan)):
        grid[:, column * w] = _FAINT
    if not scene.opened:
        return
    answers = [answer_colour(scene, number) for number in range(len(scene.slots))]
    colours = np.array([_GROUND, _LINE, _TEXT, _DIM, _DIM, *answers], dtype=np.int16)[scene.cells]
    colours[scene.pruned] = _faded(colours[scene.pruned])
    # One more column, so that whether a branch was right fits behind its last cell.
    shapes = np.pad(np.minimum(scene.cells, ANSWER), ((0, 0), (0, 1)))
    colours = np.pad(colours, ((0, 0), (0, 1), (0, 0)))
    every, ends = np.arange(scene.opened), (scene.cells > NOTHING).sum(axis=1)
    colours[every[scene.pruned], ends[scene.pruned] - 1] = _DIM
    if scene.right is not None:
        marks = np.where(scene.right[:, None], _GOOD, _BAD).astype(np.int16)
        shapes[every, ends] = np.where(scene.right, _TICK, _CROSS)
        colours[every, ends] = np.where(scene.pruned[:, None], _faded(marks, 0.6), marks)
    covered = _stencils(w, h)[shapes].transpose(0, 2, 1, 3).reshape(scene.opened * h, -1, 1)
    painted = np.repeat(np.repeat(colours, h, axis=0), w, axis=1)
    ground = grid[: scene.opened * h].astype(np.int16)
    grid[: scene.opened * h] = ground + ((painted - ground) * covered >> 7)


_TICK, _CROSS = ANSWER + 1, ANSWER + 2


@lru_cache(maxsize=16)
def _stencils(width: int, height: int) -> NDArray[np.int16]:
    """int16[8, height, width] from 0 (ground) to 128 (paint): the shape of each code, then tick and cross."""
    from PIL import Image, ImageDraw

    fine = 8  # drawn large and averaged, for smooth edges
    w, h = width * fine, height * fine
    gap = fine * (1 if min(width, height) <= 14 else 2)
    inner = (0, 0, w - gap - 1, h - gap - 1)
    x, y = (w - gap) / 2, (h - gap) / 2
    corner = min(w, h) // 7 if min(width, height) >= 8 else 0
    line = max(fine, min(w, h) // 9)
    size = min(w, h, 44 * fine)
    shapes = []
    for code in range(_CROSS + 1):
        image = Image.new("L", (w, h))
        draw = ImageDraw.Draw(image)
        if code == UNREAD:
            thick = min(max(fine, h // 7), 6 * fine)
            draw.rectangle((0, y - thick / 2, w, y + thick / 2 - 1), 255)
        elif code == ENDED:
            draw.rounded_rectangle((0, 0, max(2 * fine, min(w // 4, 8 * fine)) - 1, inner[3]), corner // 2, 255)
        elif code == PRUNED:
            draw.line((x - size * 0.2, h - gap, x + size * 0.2, 0), 255, line)
        elif code == NO_ANSWER:
            draw.rounded_rectangle(inner, corner, None, 255, line)
        elif code == ANSWER:
            draw.rounded_rectangle(inner, corner, 255)
        elif code == _TICK:
            points = [(x - size * 0.34, y), (x - size * 0.1, y + size * 0.28), (x + size * 0.36, y - size * 0.3)]
            draw.line(points, 255, size // 6, "curve")
        elif code == _CROSS:
            for side in (-1, 1):
                arm = size * 0.27
                draw.line((x - arm, y - side * arm, x + arm, y + side * arm), 255, size // 8)
        small = np.asarray(image, dtype=np.float32).reshape(height, fine, width, fine).mean(axis=(1, 3))
        shapes.append(np.round(small * 128 / 255))
    return np.array(shapes, dtype=np.int16)


def _write_numbers(pen: _Pen, scene: Scene, plan: Layout) -> None:
    """The number of an answer, in its cell, wherever a branch changes its mind."""
    size = min(plan.cell_height * 5 // 8, plan.cell_width // 2, 22)
    if size < 9:
        return
    before = np.pad(scene.cells, ((0, 0), (1, 0)))[:, :-1]
    for i, column in np.argwhere((scene.cells >= ANSWER) & (scene.cells != before)).tolist():
        number = int(scene.cells[i, column]) - ANSWER
        colour = answer_colour(scene, number)
        ink = _DIM if scene.pruned[i] else _GROUND if sum(colour) > 330 else _TEXT
        x = plan.left + (column + 0.5) * plan.cell_width - 1
        pen.write((x, plan.top + (i + 0.5) * plan.cell_height - 1), str(number), size, ink, "mm", plan.cell_width - 4)


def _write_axes(pen: _Pen, scene: Scene, plan: Layout) -> None:
    every = next(n for n in (1, 2, 4, 8, 16, 32, 64, 128, 256) if n * plan.cell_height >= 14 * (1 if n == 1 else 2))
    for i in range(0, plan.rows, every):
        colour = _TEXT if i == scene.touched else _DIM if i < scene.opened else _LINE
        pen.write((plan.left - 14, plan.top + (i + 0.5) * plan.cell_height), str(i), 11, colour, "rm")
    for i in range(scene.opened):  # who stands behind the leader
        if scene.leader >= 0 and scene.latest[i] == scene.leader and not scene.pruned[i]:
            y = plan.top + i * plan.cell_height
            pen.box((plan.left - 8, y, plan.left - 5, y + plan.cell_height - 1), answer_colour(scene, scene.leader))
    for column in range(0, scene.columns + 1, _tick_step(plan)):
        x = plan.left + column * plan.cell_width
        pen.write((x, plan.floor + 15), str(column), 11, _DIM, "ms")


def _tick_step(plan: Layout) -> int:
    return next(n for n in (1, 2, 5, 10, 20, 50, 100, 1000) if n * plan.cell_width >= 40)


def _write_header(pen: _Pen, scene: Scene, plan: Layout) -> None:
    edge = plan.width - _MARGIN
    pen.write((_MARGIN, 32), scene.pool or "episode", 20, _TEXT, width=edge - _MARGIN)
    pen.write((_MARGIN, 52), f"question {scene.question}  \u00b7  order {scene.order}", 13, _DIM)
    pen.write((plan.panel, 52), scene.last_move, 13, _DIM, width=_PANEL)


def _write_panel(pen: _Pen, scene: Scene, plan: Layout) -> None:
    left, right = plan.panel, plan.panel + _PANEL
    y = plan.top + 22
    end = pen.write((left, y), f"{scene.tokens:,}", 28, _TEXT)
    pen.write((end + 7, y), "tokens", 13, _DIM)
    y += 20
    extra = "" if scene.cost == scene.tokens else f"  \u00b7  cost {scene.cost:,.0f}"
    pen.write((left, y), f"{scene.probes:,} probes{extra}", 13, _DIM, width=_PANEL)
    if scene.budget is not None:
        y += 14
        share = scene.cost / scene.budget if scene.budget > 0 else 1.0
        pen.shares((left, y, right, y + 6), [(min(1.0, share), _BAD if share > 1 else _TEXT)])
        y += 22
        pen.write((left, y), f"{share:.0%} of {scene.budget:,.0f}", 13, _DIM)

    y += 30
    pen.write((left, y), f"{scene.opened} of {scene.max_branches} branches", 13, _TEXT)
    counts = scene.state_counts
    shades = (_TEXT, _DIM, _LINE)
    y += 10
    pen.shares((left, y, right, y + 6), [(n / scene.max_branches, s) for n, s in zip(counts.values(), shades)])
    y += 22
    x: float = left
    for (state, count), shade in zip(counts.items(), shades):
        pen.box((x, y - 8, x + 7, y - 1), shade)
        x = pen.write((x + 12, y), f"{count} {state}", 12, _DIM) + 12

    y += 34
    total = sum(scene.votes)
    pen.write((left, y), "votes", 13, _TEXT)
    if scene.leader >= 0:
        pen.write((right, y), f"confidence {_percent(scene.confidence)}", 12, _DIM, "rs")
    _write_votes(pen, scene, left, right, y + 12, total)

    if scene.answered is not None:
        _write_verdict(pen, scene, left, plan.bottom)


def _write_votes(pen: _Pen, scene: Scene, left: int, right: int, y: int, total: int) -> None:
    """A bar per answer, the leader first; answers with few votes share the last one."""
    voted = sorted((n for n, count in enumerate(scene.votes) if count), key=lambda n: -scene.votes[n])
    voted.sort(key=lambda n: n != scene.leader)  # among equals the leader is the first in opening order
    shown = voted if len(voted) <= _MOST_BARS else voted[: _MOST_BARS - 1]
    bars = [(f"#{n}", scene.votes[n], answer_colour(scene, n)) for n in shown]
    if len(shown) < len(voted):
        bars.append((f"{len(voted) - len(shown)} more", total - sum(scene.votes[n] for n in shown), _LINE))
    for k, (label, count, colour) in enumerate(bars):
        middle = y + 22 * k + 9
        pen.write((left, middle), label, 13, _TEXT if k == 0 else _DIM, "lm")
        start, stop = left + 52, right - 30
        pen.box((start, middle - 6, start + max(2, round((stop - start) * count / total)), middle + 6), colour)
        pen.write((right, middle), str(count), 13, _TEXT if k == 0 else _DIM, "rm")


def _write_verdict(pen: _Pen, scene: Scene, left: int, bottom: int) -> None:
    given = f"answered #{scene.answered}" if scene.answered != -1 else "no answer given"
    if scene.correct is None:
        pen.write((left, bottom - 8), given, 20, _TEXT)
        return
    colour = _GOOD if scene.correct else _BAD
    pen.stamp((left, bottom - 50), _stencils(48, 48)[_TICK if scene.correct else _CROSS], colour)
    pen.write((left + 60, bottom - 24), "right" if scene.correct else "wrong", 30, colour)
    pen.write((left + 61, bottom - 4), given, 13, _DIM)


def _write_legend(pen: _Pen, scene: Scene, plan: Layout) -> None:
    x, y = float(plan.left), plan.bottom + _FOOT - 22
    stencils, sample = _stencils(14, 12), PALETTE[0]
    entries: tuple[tuple[str, tuple[tuple[int, Colour], ...]], ...] = (
        ("not read", ((UNREAD, _LINE),)),
        ("no answer", ((NO_ANSWER, _DIM),)),
        ("answer", ((ANSWER, sample),)),
        ("ended", ((ANSWER, sample), (ENDED, _TEXT))),
        ("pruned", ((ANSWER, _faded(sample)), (PRUNED, _DIM))),
    )
    for words, shapes in entries:
        for code, colour in shapes:
            pen.stamp((round(x), y - 6), stencils[code], colour)
            x += 14 if code != ENDED else 6
        x = pen.write((x + 5, y), words, 12, _DIM, "lm") + 18
    pen.box((x, y - 6, x + 3, y + 5), sample)
    pen.write((x + 10, y), "with the leader", 12, _DIM, "lm")
    pen.write((plan.panel, y), f"a column is {scene.delta:,} tokens", 12, _DIM, "lm", _PANEL)


class _Pen:
    """Writes and paints on an image."""

    def __init__(self, image: Image.Image) -> None:
        from PIL import ImageDraw

        self.image = image
        self._draw = ImageDraw.Draw(image)

    def write(
        self, at: tuple[float, float], words: str, size: int, colour: Colour, anchor: str = "ls", width: int = 10_000
    ) -> float:
        """Write a line no wider than ``width``; returns where it ends."""
        font, words = _font(size), _fitted(words, size, width)
        self._draw.text(at, words, font=font, fill=colour, anchor=anchor)
        return at[0] + font.getlength(words)

    def box(self, corners: tuple[float, float, float, float], colour: Colour) -> None:
        """Fill a rectangle; its last column and row belong to it."""
        self._draw.rectangle(corners, colour)

    def shares(self, corners: tuple[float, float, float, float], parts: list[tuple[float, Colour]]) -> None:
        """A bar of which each part takes a share."""
        left, top, right, bottom = corners
        self.box(corners, _FAINT)
        done = 0.0
        for share, colour in parts:
            start, done = left + done * (right - left), done + share
            if share > 0:
                self.box((round(start), top, round(left + done * (right - left)), bottom), colour)

    def stamp(self, at: tuple[int, int], stencil: NDArray[np.int16], colour: Colour) -> None:
        """Paint through a stencil whose upper left corner is at ``at``."""
        from PIL import Image

        mask = Image.fromarray(np.minimum(stencil * 2, 255).astype(np.uint8))
        self.image.paste(colour, at, mask)


@lru_cache(maxsize=32)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _fitted(words: str, size: int, width: int) -> str:
    """The words as far as the font can show them and the width holds them."""
    words = "".join(c if c.isascii() or c == "\u00b7" else "?" for c in words)
    if _font(size).getlength(words) <= width:
        return words
    while words and _font(size).getlength(words + "...") > width:
        words = words[:-1]
    return words + "..."


def _faded(colour: Any, keep: float = 0.3) -> Any:
    """A colour, or int16[..., 3] of them, most of the way to the ground."""
    faded = np.asarray(_GROUND) + (np.asarray(colour) - _GROUND) * keep
    return tuple(faded.astype(int).tolist()) if isinstance(colour, tuple) else faded.astype(np.int16)


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
        lines.append(f"leader #{scene.leader}, {votes}, confidence {_percent(scene.confidence)}")
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
    if code < ANSWER:
        return " -|/."[code] * count
    number = code - ANSWER
    symbols = (_SYMBOLS[number] if number < len(_SYMBOLS) else "+") * count
    if not colour:
        return symbols
    red, green, blue = (round(part / 51) for part in answer_colour(scene, number))  # the 6 x 6 x 6 cube
    return f"\x1b[{'2;' if pruned else ''}38;5;{16 + 36 * red + 6 * green + blue}m{symbols}\x1b[0m"


# --- the window -------------------------------------------------------------------------------------


class Window:
    """Pictures in a window, at most ``fps`` a second. Closing it ends the showing, not the episode.

    Raises:
        UsageError: pygame is not installed, or there is no screen.
    """

    def __init__(self, title: str = "tts-gym", fps: float = 8) -> None:
        os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # a library prints nothing of its own accord
        self._pygame = _need("pygame", "pygame-ce", "a window")
        self._fps, self._clock, self.closed = fps, self._pygame.time.Clock(), False
        try:
            self._pygame.display.init()
        except self._pygame.error as error:
            raise UsageError(f"no window can be opened here ({error}); rgb_array and ansi need none") from None
        self._title = title

    def show(self, picture: NDArray[np.uint8]) -> None:
        """Show uint8[H, W, 3], once the last picture was up for long enough; nothing once the window was closed."""
        if self.closed:
            return
        self._pygame.display.init()  # another window may have closed the display
        if any(event.type == self._pygame.QUIT for event in self._pygame.event.get()):
            self.close()
            return
        self._clock.tick(self._fps)
        size = picture.shape[1::-1]
        screen = self._pygame.display.get_surface()
        if screen is None or screen.get_size() != size:
            screen = self._pygame.display.set_mode(size)
            self._pygame.display.set_caption(self._title)
        screen.blit(self._pygame.image.frombuffer(picture.tobytes(), size, "RGB"), (0, 0))
        self._pygame.display.flip()

    def close(self) -> None:
        """Close the window. Closing twice is fine."""
        if not self.closed:
            self.closed = True
            self._pygame.display.quit()


def _percent(share: float) -> str:
    return "> 99.9%" if 0.999 < share < 1 else f"{share:.1%}"


def _need(module: str, distribution: str, what: str) -> Any:
    try:
        return import_module(module)
    except ImportError:
        raise UsageError(f"{what} needs {distribution}, not installed here: pip install 'tts-gym[render]'") from None
