"""Pictures of episodes: what they show, what they must not, and that they can be read."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from random_pools import recordings, steady

from tts_gym.engine.moves import Move, branch_order
from tts_gym.envs import rendering
from tts_gym.envs.layout import ENDED, NO_ANSWER, NOTHING, PRUNED, UNREAD
from tts_gym.envs.layout import FIRST_ANSWER as ANSWER
from tts_gym.envs.rendering import Window, layout, picture
from tts_gym.envs.scene import PALETTE, Scene, answer_colour, replayed, text
from tts_gym.errors import IllegalMove, UsageError
from tts_gym.evaluation import find_program
from tts_gym.pools import DEFAULT_POOL, SyntheticSpec, generate, open_pool
from tts_gym.pools.pool import Recording
from tts_gym.programs.runner import Limits, reference_episode, trace_program

# One question, three branches opened as 0, 1, 2 (order 5 is the identity). Branch 0: 7, 7, then 7 at its end.
# Branch 1: nothing, 9, 9, then 9. Branch 2: one interval with 9, then no answer.
TINY = Recording(
    answers=np.array([[[7, 7, 7, -1], [-1, 9, 9, 9], [9, -1, -1, -1]]], dtype=np.int16),
    intervals=np.array([[2, 3, 1]], dtype=np.int16),
    tokens=np.array([[150, 290, 80]], dtype=np.int32),
    delta=100,
    vocabulary_size=10,
)
IDENTITY = 5
GOLD_IS_9 = np.arange(10) == 9
TINY_LOG = [
    (Move.BRANCH, 0), (Move.PROBE, 0), (Move.BRANCH, 1), (Move.PROBE, 1), (Move.BRANCH, 2), (Move.CONTINUE, 2),
    (Move.CONTINUE, 1), (Move.CONTINUE, 1), (Move.PROBE, 1), (Move.END_ROUND, 0), (Move.CONTINUE, 0),
    (Move.PRUNE, 0), (Move.CONTINUE, 1), (Move.ANSWER, 1),
]  # fmt: skip


def tiny(moves: int = len(TINY_LOG), correct: NDArray[np.bool_] | None = None) -> Scene:
    return replayed(TINY, 0, IDENTITY, Limits(), TINY_LOG[:moves], pool="tiny", correct=correct)


@st.composite
def episodes(draw: st.DrawFn) -> tuple[Recording, int, Limits, list[tuple[int, int]]]:
    """A recording, an order and any legal log, with or without an ANSWER."""
    recording = draw(recordings())
    order, rng = draw(st.integers(0, 5)), draw(st.randoms(use_true_random=False))
    limits = Limits(draw(st.integers(1, 6)), draw(st.none() | st.integers(0, 9000)), draw(st.sampled_from([0.0, 30.0])))
    episode = reference_episode(recording, 0, order, limits)
    for _ in range(draw(st.integers(0, 40))):
        i = rng.randrange(max(1, episode.opened))
        options = [
            (episode.branch, ()), (episode.advance, (i,)), (episode.advance, (i,)), (episode.probe, (i,)),
            (episode.end_round, ()),
        ] + [(episode.prune, (i,))] * (rng.random() < 0.2)  # fmt: skip
        move, arguments = rng.choice(options)
        try:
            move(*arguments)  # type: ignore[operator]
        except IllegalMove:
            continue
    if draw(st.booleans()):
        episode.answer(rng.randrange(-1, len(episode.revealed)))
    return recording, order, limits, episode.log


def read_independently(recording: Recording, order: int, log: list[tuple[int, int]]) -> list[list[int]]:
    """The grid from the log and the recorded arrays alone, without an engine."""
    rows: list[list[int]] = []
    numbers: dict[int, int] = {}
    positions = branch_order(recording.branches, order)

    def code(i: int, column: int) -> int:
        answer = int(recording.answers[0, positions[i], column])
        return NO_ANSWER if answer < 0 else ANSWER + numbers.setdefault(answer, len(numbers))

    for move, i in log:
        if move == Move.BRANCH:
            rows.append([])
        if move in (Move.BRANCH, Move.CONTINUE):
            length = int(recording.intervals[0, positions[i]])
            rows[i] += [UNREAD] if len(rows[i]) < length else [code(i, length), ENDED]
        elif move == Move.PROBE:
            rows[i][-1] = code(i, len(rows[i]) - 1)
        elif move == Move.PRUNE:
            rows[i].append(PRUNED)
    return rows


# --- scenes -----------------------------------------------------------------------------------------


def test_a_scene_worked_out_by_hand() -> None:
    scene = tiny(correct=GOLD_IS_9)
    a, b = ANSWER, ANSWER + 1  # 7 was revealed first, then 9
    expected = [[a, UNREAD, PRUNED, 0, 0], [NO_ANSWER, UNREAD, b, b, ENDED], [UNREAD, NO_ANSWER, ENDED, 0, 0]]
    assert scene.cells.tolist() == expected
    assert (scene.latest, scene.finished.tolist(), scene.pruned.tolist()) == (
        (0, 1, -1), [False, True, True], [True, False, False],
    )  # fmt: skip
    assert (scene.votes, scene.leader, scene.confidence) == ((0, 1), 1, 0.75)  # one vote against none: 1 - 1/4
    assert scene.tokens == 150 + 300 + 80  # branch 1 was probed at its end, which bills its last interval in full
    assert (scene.probes, scene.cost, scene.budget) == (3, 530, None)
    assert (scene.answered, scene.correct, scene.last_move) == (1, True, "answered #1")
    assert scene.right is not None
    assert scene.right.tolist() == [False, True, False]
    assert scene.state_counts == {"live": 0, "finished": 2, "pruned": 1}


def test_every_move_is_said_in_words() -> None:
    assert [tiny(n).last_move for n in range(len(TINY_LOG) + 1)] == [
        "", "branch 0 opened", "branch 0 read: #0", "branch 1 opened", "branch 1 read: no answer", "branch 2 opened",
        "branch 2 ended with no answer", "branch 1 continued", "branch 1 continued", "branch 1 read: #1",
        "branch 1 read: #1", "branch 0 continued", "branch 0 pruned", "branch 1 ended with #1", "answered #1",
    ]  # fmt: skip


@steady
@given(episodes())
def test_cells_are_what_the_log_and_the_recording_say(episode: Any) -> None:
    recording, order, limits, log = episode
    for stop in {0, len(log) // 2, max(0, len(log) - 1), len(log)}:
        scene = replayed(recording, 0, order, limits, log[:stop])
        rows = read_independently(recording, order, log[:stop])
        assert scene.cells.shape == (len(rows), int(recording.intervals.max()) + 2)
        for cells, row in zip(scene.cells.tolist(), rows, strict=True):
            assert cells == row + [NOTHING] * (len(cells) - len(row))
        assert scene.finished.tolist() == [ENDED in row for row in rows]
        assert scene.pruned.tolist() == [PRUNED in row for row in rows]


@steady
@given(episodes())
def test_any_episode_can_be_shown(episode: Any) -> None:
    recording, order, limits, log = episode
    correct = np.zeros(recording.vocabulary_size, dtype=np.bool_)
    scene = replayed(recording, 0, order, limits, log, correct=correct)
    assert picture(scene).dtype == np.uint8
    assert len(text(scene).splitlines()) >= 3 + scene.opened


class Sealed:
    """Gold that must not be looked at."""

    def __getitem__(self, code: object) -> bool:
        raise AssertionError("gold was consulted")


def test_gold_is_not_consulted_before_the_answer() -> None:
    sealed: Any = Sealed()
    for moves in range(len(TINY_LOG)):
        scene = tiny(moves, sealed)
        assert (scene.answered, scene.correct, scene.right) == (None, None, None)
    with pytest.raises(AssertionError, match="gold was consulted"):
        tiny(correct=sealed)


def test_without_gold_there_is_no_verdict() -> None:
    assert (tiny().answered, tiny().correct, tiny().right) == (1, None, None)
    assert "right" not in text(tiny())


def test_no_answer_is_wrong() -> None:
    log = [(Move.BRANCH, 0), (Move.ANSWER, -1)]
    scene = replayed(TINY, 0, IDENTITY, Limits(), log, correct=np.ones(10, dtype=np.bool_))
    assert (scene.answered, scene.correct, scene.last_move) == (-1, False, "answered nothing")


def test_a_grid_that_is_too_small_is_named() -> None:
    with pytest.raises(UsageError, match="columns should be at least 3 to show this episode, found 2"):
        replayed(TINY, 0, IDENTITY, Limits(), TINY_LOG, columns=2)
    with pytest.raises(UsageError, match="rows should be at least 3 to show this episode, found 1"):
        replayed(TINY, 0, IDENTITY, Limits(), TINY_LOG, rows=1)


def test_rows_and_columns_of_another_pool_make_pictures_of_one_size() -> None:
    roomy = replayed(TINY, 0, IDENTITY, Limits(2), [(Move.BRANCH, 0)], rows=5, columns=9)
    assert (roomy.max_branches, roomy.rows, roomy.cells.shape) == (2, 5, (1, 11))
    plan = layout(5, 9)
    assert picture(roomy).shape == (plan.height, plan.width, 3)


def test_a_log_of_another_episode_is_refused() -> None:
    with pytest.raises(IllegalMove, match=r"PROBE\(0\)"):
        replayed(TINY, 0, IDENTITY, Limits(), [(Move.BRANCH, 0), (Move.PROBE, 0), (Move.PROBE, 0)])


# --- colours ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shipped() -> list[Scene]:
    """One episode of CMC on the shipped pool at several moments, the last after its answer."""
    pool, limits, program = open_pool(DEFAULT_POOL), Limits(max_branches=34), find_program("cmc")
    log = trace_program(program, pool.recording, program.knobs(0.5), question=15, order=3, limits=limits)
    stops = [0, 1, 2, 40, 200, 500, 800, len(log) - 1, len(log)]
    correct = pool.correct()[15]
    return [replayed(pool.recording, 15, 3, limits, log[:n], pool=pool.name, correct=correct) for n in stops]


def test_an_answer_keeps_the_colour_it_was_given(shipped: list[Scene]) -> None:
    for before, after in pairwise(shipped):
        for number, slot in enumerate(before.slots):
            assert slot in (-1, after.slots[number])


def test_answers_that_matter_have_a_colour_of_their_own(shipped: list[Scene]) -> None:
    for scene in shipped:
        own = [n for n, slot in enumerate(scene.slots) if slot >= 0]
        assert sorted(scene.slots[n] for n in own) == list(range(len(own)))
        for number, votes in enumerate(scene.votes):
            if votes >= 2 and (number == scene.leader or 10 * votes >= sum(scene.votes)):
                assert number in own
    assert 5 <= len(own) <= len(PALETTE) < len(scene.votes)  # most answers are passing thoughts
    assert scene.slots[scene.answered or 0] >= 0
    assert len(set(PALETTE)) == len(PALETTE)


@pytest.mark.parametrize("rows", [34, 64, 128])
def test_a_revealed_answer_has_its_colour_at_its_place(shipped: list[Scene], rows: int) -> None:
    for scene in shipped:
        scene = replace(scene, rows=rows)
        plan, pixels = layout(scene.rows, scene.columns), picture(scene)
        for i, column in np.argwhere(scene.cells >= ANSWER).tolist():
            # Near the upper edge: a number may stand in the middle.
            x = plan.left + column * plan.cell_width + plan.cell_width // 2
            seen = tuple(pixels[plan.top + i * plan.cell_height + 1, x].tolist())
            colour = answer_colour(scene, int(scene.cells[i, column]) - ANSWER)
            if scene.pruned[i]:  # faded: darker, yet not gone
                assert sum(pixels[0, 0].tolist()) < sum(seen) < sum(colour)
            else:
                assert seen == colour


def test_each_kind_of_cell_looks_different() -> None:
    scene = replace(tiny(12), touched=-1)  # branch 0 is pruned, so look at the others and at an empty one
    plan, pixels = layout(scene.rows, scene.columns), picture(replace(tiny(11), touched=-1))

    def cell(i: int, column: int) -> bytes:
        x, y = plan.left + column * plan.cell_width, plan.top + i * plan.cell_height
        return pixels[y + 1 : y + plan.cell_height, x + 1 : x + plan.cell_width].tobytes()

    kinds = [cell(2, 0), cell(2, 1), cell(2, 2), cell(0, 0), cell(1, 2), cell(2, 4)]
    assert len(set(kinds)) == len(kinds)
    pixels = picture(scene)
    assert cell(0, 2) not in kinds


# --- pictures ---------------------------------------------------------------------------------------


def test_the_size_does_not_change_through_an_episode(shipped: list[Scene]) -> None:
    sizes = {picture(scene).shape for scene in shipped}
    assert len(sizes) == 1
    height, width, channels = sizes.pop()
    assert (height % 2, width % 2, channels) == (0, 0, 3)
    assert max(width, height) <= 1280


def test_every_move_changes_the_picture() -> None:
    pictures = [picture(tiny(n, GOLD_IS_9)).tobytes() for n in range(len(TINY_LOG) + 1)]
    same = [k for k, (before, after) in enumerate(pairwise(pictures)) if before == after]
    assert same == [TINY_LOG.index((Move.END_ROUND, 0))]  # a mark, no move


def test_the_verdict_is_seen() -> None:
    def shows(pixels: NDArray[np.uint8], colour: tuple[int, int, int]) -> bool:
        return bool((pixels == colour).all(axis=2).any())

    good, bad = rendering._GOOD, rendering._BAD
    for gold, verdict, marks in ((GOLD_IS_9, good, [bad, good, bad]), (~GOLD_IS_9, bad, [good, bad, bad])):
        scene = tiny(correct=gold)
        plan, pixels = layout(scene.rows, scene.columns), picture(scene)
        assert shows(pixels[:, plan.panel :], verdict)
        for i, ended in ((1, 5), (2, 3)):  # branch 0 was pruned: its mark is a shade of the colour
            x, y = plan.left + ended * plan.cell_width, plan.top + i * plan.cell_height
            assert shows(pixels[y : y + plan.cell_height, x : x + plan.cell_width], marks[i])
        faded = rendering._faded(marks[0], 0.6)
        assert shows(pixels[plan.top : plan.top + plan.cell_height, plan.left : plan.right], faded)
    unknown = picture(tiny())
    assert not shows(unknown, good)
    assert not shows(unknown, bad)


@pytest.mark.parametrize(
    ("branches", "columns"), [(1, 3), (1, 80), (4, 6), (32, 80), (64, 80), (128, 90), (200, 3)], ids=str
)
def test_no_text_is_cut_or_runs_into_another(branches: int, columns: int, monkeypatch: Any) -> None:
    spec = SyntheticSpec(questions=1, branches=branches, max_intervals=columns, length_median=columns / 2)
    pool = generate(spec, seed=1)
    program, limits = find_program("parallel_probe"), Limits(spec.branches, 10**9, 10.0)
    log = trace_program(program, pool.recording, {**program.knobs(1.0), "n": spec.branches}, question=0, order=0)
    log = log[: len(log) // 2] + [(Move.ANSWER, 0)]
    scene = replayed(pool.recording, 0, 0, limits, log, pool="name/" * 60, correct=pool.correct()[0])
    scene = replace(scene, tokens=888_888_888, cost=999_999_999.0, probes=88_888, last_move="branch 128 continued " * 4)

    boxes: list[tuple[float, float, float, float]] = []
    draw = rendering._Pen.write

    def write(pen: Any, at: Any, words: str, size: int, colour: Any, anchor: str = "ls", width: int = 10_000) -> float:
        end = draw(pen, at, words, size, colour, anchor, width)
        drawn = rendering._fitted(words, size, width)
        left, top, right, bottom = rendering._font(size).getbbox(drawn, anchor=anchor)
        boxes.append((at[0] + left, at[1] + top, at[0] + right, at[1] + bottom))
        return end

    monkeypatch.setattr(rendering._Pen, "write", write)
    pixels = picture(scene)
    assert len(boxes) > 15
    for k, (left, top, right, bottom) in enumerate(boxes):
        assert left >= 4 and top >= 4 and right <= pixels.shape[1] - 4 and bottom <= pixels.shape[0] - 4
        for other in boxes[:k]:
            assert right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top
    edge = np.concatenate(
        [
            pixels[:4].reshape(-1, 3),
            pixels[-4:].reshape(-1, 3),
            pixels[:, -4:].reshape(-1, 3),
            pixels[:, :4].reshape(-1, 3),
        ]
    )
    assert len(np.unique(edge, axis=0)) == 1  # nothing reaches the edge


def test_what_was_recorded_in_the_paper_can_be_shown(autotts: Any) -> None:
    pool = open_pool(str(autotts / "Qwen3-8B" / "aime24.json"))
    program, limits = find_program("parallel_probe"), Limits(max_branches=64)
    log = trace_program(program, pool.recording, program.knobs(1.0), question=27, order=0, limits=limits)
    scene = replayed(pool.recording, 27, 0, limits, log, correct=pool.correct()[27])
    assert (scene.opened, scene.columns, len(scene.votes)) == (64, 80, 92)
    start = time.perf_counter()
    picture(scene)
    assert time.perf_counter() - start < 1  # about 0.02 s; a slow machine may take more, a slow loop would not pass


# --- text -------------------------------------------------------------------------------------------


def test_text_says_everything_in_ascii() -> None:
    expected = """\
tiny, question 0, order 5
530 tokens, 3 probes, cost 530
3 of 3 branches: 0 live, 2 finished, 1 pruned
leader #1, 1 of 1 votes, confidence 75.0%
  0   0-/    pruned #0 wrong
  1 > .-11|  finished #1 right
  2   -.|    finished no answer wrong
answered #1: right"""
    scene = tiny(correct=GOLD_IS_9)
    assert text(scene, colour=False) == expected
    coloured = text(scene)
    assert coloured.isascii()
    assert coloured != expected
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == expected


def test_text_of_an_episode_that_runs() -> None:
    assert text(tiny(0), colour=False).splitlines()[2:] == ["0 of 3 branches: 0 live, 0 finished, 0 pruned"]
    assert text(tiny(2), colour=False).splitlines()[3:] == [
        "leader #0, 1 of 1 votes, confidence 75.0%",
        "  0 > 0  live #0",
        "last: branch 0 read: #0",
    ]
    budgeted = replayed(TINY, 0, IDENTITY, Limits(budget=2000, probe_cost=5.0), TINY_LOG[:2])
    assert text(budgeted).splitlines()[1] == "100 tokens, 1 probes, cost 105 of 2,000"


def test_text_has_a_symbol_for_every_answer() -> None:
    many = 70
    answers = np.full((1, many, 2), -1, dtype=np.int16)
    answers[0, :, 0] = answers[0, :, 1] = np.arange(many)
    ones = np.ones((1, many), dtype=np.int16)
    recording = Recording(answers, ones, ones.astype(np.int32), 1, many)
    log = [move for i in range(many) for move in ((Move.BRANCH, i), (Move.PROBE, i))]
    lines = text(replayed(recording, 0, 0, Limits(), log), colour=False).splitlines()[4:-1]
    assert "".join(line[6] for line in lines) == (
        "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" + "+" * 8
    )
    assert [line.split()[-1] for line in lines] == [f"#{n}" for n in range(many)]


# --- the window -------------------------------------------------------------------------------------


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")


@pytest.mark.usefixtures("screen")
def test_a_window_shows_pictures_of_any_size() -> None:
    import pygame

    window = Window("a title", fps=1000)
    small = np.zeros((20, 30, 3), dtype=np.uint8)
    small[5, 7] = 10, 200, 30
    for pixels in (small, picture(tiny()), small):
        window.show(pixels)
        surface = pygame.display.get_surface()
        assert surface is not None
        np.testing.assert_array_equal(pygame.surfarray.array3d(surface).transpose(1, 0, 2), pixels)
    assert pygame.display.get_caption()[0] == "a title"
    window.close()
    window.close()
    assert not pygame.display.get_init()


@pytest.mark.usefixtures("screen")
def test_one_window_closing_leaves_another_open() -> None:
    first, second = Window(fps=1000), Window(fps=1000)
    pixels = np.zeros((4, 4, 3), dtype=np.uint8)
    for window in (first, second):
        window.show(pixels)
    first.close()
    second.show(pixels)
    assert not second.closed
    second.close()


@pytest.mark.usefixtures("screen")
def test_a_window_keeps_its_pace() -> None:
    window = Window(fps=50)
    pixels = np.zeros((4, 4, 3), dtype=np.uint8)
    window.show(pixels)
    start = time.perf_counter()
    for _ in range(5):
        window.show(pixels)
    assert time.perf_counter() - start >= 5 / 50 - 0.02
    window.close()


@pytest.mark.usefixtures("screen")
def test_closing_the_window_ends_the_showing_and_no_more() -> None:
    import pygame

    window = Window(fps=2)
    pixels = np.zeros((4, 4, 3), dtype=np.uint8)
    window.show(pixels)
    pygame.event.post(pygame.event.Event(pygame.QUIT))
    start = time.perf_counter()
    for _ in range(5):
        window.show(pixels)
    assert window.closed
    assert time.perf_counter() - start < 0.45  # no waiting for a window that is gone


def test_without_a_screen_the_window_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "no-such-driver")
    with pytest.raises(UsageError, match=r"no window can be opened here .*rgb_array and ansi need none"):
        Window()


# --- what is not installed --------------------------------------------------------------------------


def test_missing_libraries_are_named_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(UsageError, match=r"drawing needs Pillow, not installed here: pip install 'tts-gym\[render\]'"):
        picture(tiny())
    with pytest.raises(UsageError, match=r"a window needs pygame-ce, .*'tts-gym\[render\]'"):
        Window()
    assert text(tiny())  # needs neither


def test_importing_the_module_imports_neither_library() -> None:
    check = "import sys, tts_gym.envs; sys.exit(any(name in sys.modules for name in ('PIL', 'pygame')))"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
