"""Pictures of an episode: the scene as an image, and in a window.

Pillow and pygame are imported where they are used: ``pip install 'tts-gym[render]'``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tts_gym.envs.layout import ENDED, FIRST_ANSWER, NO_ANSWER, NOTHING, PRUNED, UNREAD
from tts_gym.envs.scene import PALETTE, Colour, Scene, answer_colour, percent, rgb
from tts_gym.errors import UsageError

if TYPE_CHECKING:
    from PIL import Image, ImageFont

_GROUND, _BAND, _FAINT, _LINE, _DIM, _TEXT, _GOOD, _BAD = rgb(
    "11141B", "1B202B", "222834", "4A5364", "8C95A6", "EEF1F6", "8BE8B0", "F0766B"
)

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
    shapes = np.pad(np.minimum(scene.cells, FIRST_ANSWER), ((0, 0), (0, 1)))
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


_TICK, _CROSS = FIRST_ANSWER + 1, FIRST_ANSWER + 2


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
        elif code == FIRST_ANSWER:
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
    for i, column in np.argwhere((scene.cells >= FIRST_ANSWER) & (scene.cells != before)).tolist():
        number = int(scene.cells[i, column]) - FIRST_ANSWER
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
        pen.write((right, y), f"confidence {percent(scene.confidence)}", 12, _DIM, "rs")
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
        ("answer", ((FIRST_ANSWER, sample),)),
        ("ended", ((FIRST_ANSWER, sample), (ENDED, _TEXT))),
        ("pruned", ((FIRST_ANSWER, _faded(sample)), (PRUNED, _DIM))),
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


def _need(module: str, distribution: str, what: str) -> Any:
    try:
        return import_module(module)
    except ImportError:
        raise UsageError(f"{what} needs {distribution}, not installed here: pip install 'tts-gym[render]'") from None
