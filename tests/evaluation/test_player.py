"""The player: its data against the engine, a second count and ``evaluate``; its page in a real browser."""

from __future__ import annotations

import json
import random
import re
from dataclasses import replace
from fractions import Fraction
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from evaluation.browser import Browser, browser, chromium  # noqa: F401
from hypothesis import given, settings
from hypothesis import strategies as st
from random_pools import recordings, steady

from tts_gym.cli import main
from tts_gym.engine.moves import Move, branch_order
from tts_gym.envs.layout import ENDED, FIRST_ANSWER, PRUNED, UNREAD
from tts_gym.envs.layout import NO_ANSWER as READ_NOTHING
from tts_gym.envs.scene import PALETTE, answer_colour, replayed
from tts_gym.errors import IllegalMove, ProgramError, UsageError
from tts_gym.evaluation import Contestant, contestant, evaluate
from tts_gym.evaluation.player import play, save_page
from tts_gym.pools import DEFAULT_POOL, Pool, Recording, SyntheticSpec, Vocabulary, generate, open_pool
from tts_gym.programs import primitives as do
from tts_gym.programs.program import Program
from tts_gym.programs.runner import Limits, trace_program

POOL = generate(SyntheticSpec(questions=3, branches=16), seed=3, name="small")
CMC, SC, ESC = contestant("cmc"), contestant("sc:n=12"), contestant("esc")
QUESTION, ORDER = 1, 2


def data_of(page: str) -> dict[str, Any]:
    """What a page holds, read as a browser reads it: up to the first end of the element."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def at(steps: dict[str, list[Any]], frame: int) -> Any:
    """A list of steps after so many actions, the slow way."""
    return [value for since, value in zip(steps["at"], steps["value"], strict=True) if since <= frame][-1]


@pytest.fixture(scope="module")
def one() -> str:
    return play([(CMC, 0.5)], POOL, QUESTION, ORDER)


@pytest.fixture(scope="module")
def two() -> str:
    return play([(CMC, 0.5), (SC, 1.0)], POOL, QUESTION, ORDER)


# --- the data ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cmc", "sc:n=9", "esc", "asc", "parallel_probe", "ibc"])
@pytest.mark.parametrize(("question", "order", "beta"), [(0, 0, 0.5), (1, 5, 1.0), (2, 3, 0.0)])
def test_how_it_ends_is_what_evaluate_says(name: str, question: int, order: int, beta: float) -> None:
    side = data_of(play([(contestant(name), beta)], POOL, question, order))["sides"][0]
    table = evaluate([name], [POOL], [beta], [order], questions=[question]).episodes.to_pylist()[0]
    for field in ("correct", "tokens", "sequential_tokens", "peak_width", "probes", "branches"):
        assert side[field] == table[field], field
    assert side["frames"]["tokens"][-1] == side["frames"]["cost"][-1] == table["tokens"]
    assert side["frames"]["sequential"][-1] == table["sequential_tokens"]
    assert at(side["frames"]["probes"], 10**9) == table["probes"]
    assert at(side["frames"]["opened"], 10**9) == table["branches"]


def exact_confidence(first: int, second: int) -> Fraction:
    """P(leader truly ahead) as a sum of binomials: 1 - I_0.5(first + 1, second + 1)."""
    n = first + second + 1
    return Fraction(sum(comb(n, k) for k in range(first + 1)), 2**n) if first else Fraction(0)


def test_every_moment_against_a_second_count_without_an_engine() -> None:
    limits = Limits(max_branches=11, probe_cost=20.5)
    data = data_of(play([(CMC, 0.5), (ESC, 1.0)], POOL, QUESTION, ORDER, limits=limits))
    texts, right = ([answer[what] for answer in data["answers"]] for what in ("text", "right"))
    vocabulary, gold = POOL.vocabulary[QUESTION], POOL.gold[QUESTION]
    assert right == [text == gold for text in texts]
    positions = branch_order(16, ORDER)
    for side, (entrant, beta) in zip(data["sides"], [(CMC, 0.5), (ESC, 1.0)], strict=True):
        log = trace_program(
            entrant.program, POOL.recording, entrant.knobs(beta), question=QUESTION, order=ORDER, limits=limits
        )
        frames, actions = side["frames"], side["actions"]
        assert actions["move"] == [int(move) for move, _ in log]
        depth: list[int] = []
        spent: list[int] = []
        held: list[str | None] = []  # the answer string each branch was last seen with
        ended: dict[int, str] = {}
        probes = 0
        for n, (move, i) in enumerate(log, start=1):
            before = sum(spent)
            if move == Move.BRANCH:
                for column in (depth, spent):
                    column.append(0)
                held.append(None)
            row = positions[i] if move not in (Move.ANSWER, Move.END_ROUND) else -1
            length = int(POOL.intervals[QUESTION, row])

            def seen(column: int, row: int = row) -> str | None:
                code = int(POOL.answers[QUESTION, row, column])
                return vocabulary[code] if code >= 0 else None

            revealed: Any = ...
            if move in (Move.BRANCH, Move.CONTINUE):
                if depth[i] < length:
                    depth[i] += 1
                    spent[i] = max(spent[i], min(500 * depth[i], int(POOL.tokens[QUESTION, row])))
                else:
                    spent[i] = max(spent[i], int(POOL.tokens[QUESTION, row]))
                    ended[i] = "finished"
                    revealed = held[i] = seen(length)
            elif move == Move.PROBE:
                probes += 1
                spent[i] = max(spent[i], 500 * depth[i])
                revealed = held[i] = seen(depth[i] - 1)
            elif move == Move.PRUNE:
                ended[i] = "pruned"
            votes = [text for k, text in enumerate(held) if text is not None and ended.get(k) != "pruned"]
            finals = [text for k, text in enumerate(held) if text is not None and ended.get(k) == "finished"]
            ranking = sorted(dict.fromkeys(votes), key=lambda text, votes=votes: -votes.count(text))
            first, second = ([votes.count(text) for text in ranking] + [0, 0])[:2]

            assert frames["tokens"][n] == sum(spent)
            assert frames["cost"][n] == sum(spent) + 20.5 * probes
            assert actions["billed"][n - 1] == sum(spent) - before
            assert at(frames["probes"], n) == probes
            assert at(frames["opened"], n) == len(depth)
            for state in ("finished", "pruned"):
                assert at(frames[state], n) == list(ended.values()).count(state)
            assert at(frames["live"], n) == len(depth) - len(ended)
            assert at(frames["total"], n) == len(votes)
            assert at(frames["right"], n) == votes.count(gold)
            leader = at(frames["leader"], n)
            assert (texts[leader] if leader >= 0 else None) == (ranking[0] if ranking else None)
            assert at(frames["confidence"], n) == pytest.approx(float(exact_confidence(first, second)), abs=1e-12)
            named = [texts[bar] for bar in data["bars"]]
            for row_of, some in (("votes", votes), ("finals", finals)):
                assert [at(steps, n) for steps in frames[row_of][:-1]] == [some.count(text) for text in named]
                assert at(frames[row_of][-1], n) == sum(text not in named for text in some)
            if row >= 0:
                assert actions["spent"][n - 1] == spent[i]
                assert actions["ended"][n - 1] == (ended.get(i) is not None)
                number = actions["answer"][n - 1]
                assert number == (-2 if revealed is ... else -1 if revealed is None else texts.index(revealed))
        assert frames["sequential"][-1] == side["sequential_tokens"]


def random_walk(seed: int) -> Contestant:
    """A program that makes random moves, legal ones only, and answers at random."""

    def solve(episode: Any, knobs: Any) -> int:
        rng = random.Random(seed)
        for _ in range(rng.randrange(60)):
            i = rng.randrange(max(1, episode.opened))
            moves: list[Any] = [lambda: do.branch(episode), lambda i=i: do.advance(episode, i)]
            moves += [lambda i=i: do.probe(episode, i), lambda: do.end_round(episode)]
            moves += [lambda i=i: do.prune(episode, i)] * (rng.random() < 0.2)
            try:
                rng.choice(moves)()
            except IllegalMove:
                continue
        return rng.randrange(-1, len(episode.revealed))

    return Contestant("walk", Program("walk", Path("walk.py"), "", {"schedule": lambda beta: {}, "solve": solve}))


def pool_of(recording: Recording) -> Pool:
    count = recording.vocabulary_size
    words = [f"answer {code}" for _ in range(recording.questions) for code in range(count)]
    offsets = np.arange(recording.questions + 1) * count
    gold = ("answer 0",) * recording.questions
    return Pool("random", recording, ("a question",) * recording.questions, gold, Vocabulary(pa.array(words), offsets))


def grid_of(data: dict[str, Any], side: dict[str, Any], frame: int) -> list[list[int]]:
    """The grid at a frame from the page's actions, as ``player_grid.js`` reads them, in the codes of a ``Scene``."""
    own = {number: k for k, number in enumerate(side["numbers"])}
    rows: list[list[int]] = []
    for k in range(frame):
        move, i, column, answer, ended = (
            side["actions"][what][k] for what in ("move", "branch", "column", "answer", "ended")
        )
        if i < 0:
            continue
        if i == len(rows):
            rows.append([])
        if column == len(rows[i]):
            rows[i].append(UNREAD)
        if answer != data["unread"]:
            rows[i][column] = FIRST_ANSWER + own[answer] if answer >= 0 else READ_NOTHING
        if ended:
            rows[i].append(PRUNED if move == Move.PRUNE else ENDED)
    return rows


@settings(steady, max_examples=60)
@given(recordings(), st.integers(0, 10**6), st.integers(0, 5), st.none() | st.integers(0, 9000))
def test_any_episode_is_shown_as_its_scenes(recording: Recording, seed: int, order: int, budget: int | None) -> None:
    walk, limits = random_walk(seed), Limits(5, budget, 30.0)
    data = data_of(play([(walk, 0.0)], pool_of(recording), 0, order, limits=limits))
    (side,) = data["sides"]
    frames = side["frames"]
    log = trace_program(walk.program, recording, {}, question=0, order=order, limits=limits)
    assert len(frames["tokens"]) == len(log) + 1
    for n in range(len(log) + 1):
        scene = replayed(recording, 0, order, limits, log[:n])
        shown = grid_of(data, side, n)
        assert [row + [0] * (scene.cells.shape[1] - len(row)) for row in shown] == scene.cells.tolist()
        assert (frames["tokens"][n], frames["cost"][n]) == (scene.tokens, scene.cost)
        assert {state: at(frames[state], n) for state in scene.state_counts} == scene.state_counts
        leader = at(frames["leader"], n)
        assert (side["numbers"].index(leader) if leader >= 0 else -1) == scene.leader
        assert at(frames["confidence"], n) == scene.confidence
        assert sum(at(steps, n) for steps in frames["votes"]) == sum(scene.votes) == at(frames["total"], n)


# --- answers and colours ----------------------------------------------------------------------------


def test_colours_are_those_of_the_pictures(one: str) -> None:
    data = data_of(one)
    log = trace_program(CMC.program, POOL.recording, CMC.knobs(0.5), question=QUESTION, order=ORDER)
    scene = replayed(POOL.recording, QUESTION, ORDER, Limits(), log)
    mattered = [number for number, slot in enumerate(scene.slots) if slot >= 0]
    assert len(mattered) > 1
    for number in mattered:
        shown = data["answers"][data["sides"][0]["numbers"][number]]["colour"]
        assert shown == "#" + bytes(answer_colour(scene, number)).hex()
        assert tuple(bytes.fromhex(shown[1:])) in PALETTE


@pytest.mark.parametrize("question", range(3))
def test_an_answer_is_one_answer_on_all_sides(question: int) -> None:
    entrants = [(SC, 1.0), (ESC, 1.0), (CMC, 0.5)]
    data = data_of(play(entrants, POOL, question, ORDER))
    texts = [answer["text"] for answer in data["answers"]]
    assert len(set(texts)) == len(texts)
    slots: dict[int, int] = {}  # when an answer came to matter, to the controller to which it did first
    for side, (entrant, beta) in zip(data["sides"], entrants, strict=True):
        log = trace_program(entrant.program, POOL.recording, entrant.knobs(beta), question=question, order=ORDER)
        scene = replayed(POOL.recording, question, ORDER, Limits(), log)
        assert len(side["numbers"]) == len(scene.votes)
        assert scene.answered is not None
        assert side["answer"] == side["numbers"][scene.answered]
        assert side["answer"] in data["bars"]
        for number, slot in zip(side["numbers"], scene.slots, strict=True):
            if slot >= 0:
                slots[number] = min(slot, slots.get(number, slot))
    assert sorted(slots) == list(range(len(slots)))
    assert [slots[number] for number in range(len(slots))] == sorted(slots.values())
    assert len(data["bars"]) <= 8
    assert set(data["bars"]) <= set(slots)


# --- the file ---------------------------------------------------------------------------------------

HOSTILE = "</script><script>alert(1)</script><!-- data -->/* script */<!-- title -->\u2028\"\\'&amp; \U0001f600"


def hostile_pool() -> Pool:
    """A pool whose every string tries to break out."""
    words = [f"{HOSTILE}{k}" for k in range(len(POOL.vocabulary.strings))]
    vocabulary = Vocabulary(pa.array(words), POOL.vocabulary.offsets)
    return replace(POOL, name=HOSTILE, questions=(HOSTILE,) * 3, gold=(words[0],) * 3, vocabulary=vocabulary)


def test_nothing_in_a_pool_breaks_out() -> None:
    page = play([(replace(CMC, name=HOSTILE), 0.5)], hostile_pool(), 0, 0)
    data = data_of(page)
    assert data["pool"] == data["text"] == data["sides"][0]["name"] == HOSTILE
    assert page.count("</script") == 2
    assert page.count("<script") == 2
    assert page.count("<!--") == 0


def test_a_page_needs_nothing_beside_itself(two: str) -> None:
    assert not re.search(r"https?:|//[a-z]+\.[a-z]", two)
    assert re.findall(r'\b(?:src|href)="([^"]*)"', two) == ["data:,"]
    assert "@import" not in two
    assert "url(" not in two
    assert not re.search(r"<!-- (?:title|data) -->|/\* (?:style|script) \*/", two)


def test_a_page_stays_small() -> None:
    pool = generate(SyntheticSpec(questions=1, branches=64), seed=5, name="large")
    page = play([(contestant("parallel_probe"), 1.0)], pool, 0, 0)
    side = data_of(page)["sides"][0]
    actions, size = len(side["actions"]["move"]), len(page.encode())
    print(f"{side['branches']} branches, {actions:,} actions: {size / 1000:.0f} kB")
    assert side["branches"] == 64
    assert actions > 2000
    assert size < 1_000_000 * actions / 3000


def test_long_answers_are_cut() -> None:
    words = pa.array([f"{k} " + "x" * 5000 for k in range(len(POOL.vocabulary.strings))])
    pool = replace(POOL, vocabulary=Vocabulary(words, POOL.vocabulary.offsets))
    texts = [answer["text"] for answer in data_of(play([(CMC, 0.5)], pool, 0, 0))["answers"]]
    assert {len(text) for text in texts} == {300}
    assert all(text.endswith("x\u2026") for text in texts)


def test_wrong_usage_is_one_sentence(tmp_path: Path) -> None:
    for arguments, message in (
        (([], POOL, 0, 0), "a player shows 1 to 3 controllers, found 0"),
        (([(CMC, 0.5)] * 4, POOL, 0, 0), "a player shows 1 to 3 controllers, found 4"),
        (([(CMC, 0.5)], POOL, 3, 0), "question should be from 0 to 2 in pool small, found 3"),
        (([(CMC, 0.5)], POOL, -1, 0), "question should be from 0 to 2 in pool small, found -1"),
        (([(CMC, 0.5)], POOL, 0, -1), "an order should be a number from 0 on, found -1"),
        (([(CMC, 1.5)], POOL, 0, 0), "beta should be between 0 and 1, found 1.5"),
        (([(contestant("sc:m=1"), 1)], POOL, 0, 0), "sc has no knob 'm'"),
    ):
        with pytest.raises(UsageError, match=re.escape(message)):
            play(*arguments)
    with pytest.raises(UsageError, match="unknown grading 'maths'; did you mean math"):
        play([(CMC, 0.5)], POOL, 0, 0, grading="maths")
    with pytest.raises(UsageError, match="cannot be written"):
        save_page("text", tmp_path / "absent" / "page.html")
    save_page("text \u03b2", tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == "text \u03b2"
    assert list(tmp_path.iterdir()) == [tmp_path / "page.html"]


def test_a_program_that_fails_is_named(tmp_path: Path) -> None:
    path = tmp_path / "greedy.py"
    path.write_text(
        "from tts_gym.programs import *\n\n\ndef schedule(beta):\n    return {}\n\n\n"
        "def solve(episode, knobs):\n    return latest(episode, 3)\n"
    )
    with pytest.raises(ProgramError, match=r"greedy\.py: question 1, order 2.* in line 9: IndexError"):
        play([(contestant(path), 0.0)], POOL, 1, 2)


# --- in a browser -----------------------------------------------------------------------------------


def texts(page: Any, side: int, *fields: str) -> list[str]:
    """What fields of a panel say now, in one round trip."""
    return page.evaluate(
        """([side, fields]) => {
          const panel = document.querySelector(`[data-side='${side}']`);
          return fields.map((field) => panel.querySelector(`[data-field='${field}']`).textContent);
        }""",
        [side, fields],
    )


def check_numbers(page: Any, data: dict[str, Any], k: int, n: int, spoiled: bool = False) -> None:
    """Everything a panel says after ``n`` actions is what the data says."""
    side = data["sides"][k]
    frames, last = side["frames"], len(side["actions"]["move"])
    leader, opened, total = (at(frames[what], n) for what in ("leader", "opened", "total"))
    answer = side["answer"] if n == last else leader
    revealed = spoiled or n == last
    expected = {
        "name": side["name"],
        "beta": f"{side['beta']:g}",
        "action": f"{n:,}",
        "actions": f"{last:,}",
        "tokens": f"{frames['tokens'][n]:,}",
        "sequential": f"{frames['sequential'][n]:,}",
        **{state: f"{at(frames[state], n):,}" for state in ("probes", "opened", "live", "finished", "pruned")},
        "confidence": at(frames["said"], n) if leader >= 0 else "",
        "verdict-label": "answered" if n == last else "in the lead",
        "leader": data["answers"][answer]["text"] if answer >= 0 else "nothing" if n == last else "\u2013",
        "total": f"{total:,} of {opened:,} branches"
        + (f" \u00b7 {at(frames['right'], n):,} right" if revealed else ""),
        "outcome": ("right" if side["correct"] else "wrong") if n == last else "",
        "votes-label": "Final votes" if n == last else "Votes",
    }
    assert dict(zip(expected, texts(page, k, *expected), strict=True)) == expected
    bars = page.evaluate(
        """(k) => [...document.querySelectorAll(`[data-side='${k}'] .bars li`)].map((item) =>
          [".text", ".count", ".mark"].map((part) => item.querySelector(part).textContent))""",
        k,
    )
    names = [data["answers"][bar]["text"] for bar in data["bars"]] + ["all others"]
    signs = ["\u2713" if data["answers"][bar]["right"] else "\u2717" for bar in data["bars"]]
    counts = [f"{at(steps, n):,}" for steps in frames["votes"]]
    assert bars == [list(bar) for bar in zip(names, counts, [*signs, ""] if revealed else [""] * len(names))]


def until(page: Any, condition: str) -> None:
    """Wait for a condition. (Playwright's own way needs eval, which the page's policy forbids.)"""
    look = f"const look = () => ({condition}) ? done() : setTimeout(look, 10); look();"
    page.evaluate(f"new Promise((done) => {{ {look} }})")


def frames_shown(page: Any) -> list[int]:
    """The action at which each panel stands."""
    shown = page.locator("[data-field='action']").all_text_contents()
    return [int(text.replace(",", "")) for text in shown]


VIEWS = [(1440, False), (1440, True), (390, False), (390, True)]


@pytest.mark.parametrize(("width", "dark"), VIEWS)
def test_the_numbers_on_the_page_are_the_data(two: str, browser: Browser, width: int, dark: bool) -> None:  # noqa: F811
    data = data_of(two)
    page = browser.open(two, width=width, dark=dark)
    assert page.locator("html").get_attribute("data-theme") == ("dark" if dark else "light")
    assert page.locator("#title").text_content() == f"small, question {QUESTION}"
    assert page.locator("#order").text_content() == f"order {ORDER}"
    assert page.locator(".panel").count() == 2
    rng = random.Random(width)
    for k, side in enumerate(data["sides"]):
        last = len(side["actions"]["move"])
        for n in [0, 1, 2, last, *rng.sample(range(last), 6)]:
            page.evaluate("([k, n]) => player.seekFrame(k, n)", [k, n])
            shown = frames_shown(page)
            assert shown[k] == n
            for other, frame in enumerate(shown):
                check_numbers(page, data, other, frame)
                # Where one stands, the other has not spent more, and would with its next action.
                costs = data["sides"][other]["frames"]["cost"]
                assert costs[frame] <= max(side["frames"]["cost"][n], 0)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width", [360, 390, 600, 820, 960, 1440])
def test_no_control_lies_on_another(one: str, two: str, browser: Browser, width: int) -> None:  # noqa: F811
    for html in (one, two):
        page = browser.open(html, width=width)
        page.click("#last")
        boxes = page.evaluate(
            """() => "button #clock .clocks-label #speed .track .switch".split(" ")
            .flatMap((what) => [...document.querySelectorAll(what.replace("-", " "))])
            .map((node) => node.getBoundingClientRect()).filter((box) => box.width > 0)
            .map((box) => [box.left, box.top, box.right, box.bottom])"""
        )
        assert len(boxes) >= 11
        for k, (left, top, right, bottom) in enumerate(boxes):
            assert left >= 0
            assert right <= width
            for other in boxes[:k]:
                apart = other[2] <= left + 1 or right <= other[0] + 1 or other[3] <= top + 1 or bottom <= other[1] + 1
                assert apart, (other, boxes[k])


def test_every_control(two: str, browser: Browser) -> None:  # noqa: F811
    data = data_of(two)
    page = browser.open(two)
    lasts = [len(side["actions"]["move"]) for side in data["sides"]]
    most = max(side["tokens"] for side in data["sides"])
    clock = page.locator("#clock")
    assert frames_shown(page) == [0, 0]

    page.click("#forward")
    assert sum(frames_shown(page)) == 1
    page.click("#forward", modifiers=["Shift"])
    assert sum(frames_shown(page)) == 11
    page.click("#back")
    assert sum(frames_shown(page)) == 10
    page.click("#back", modifiers=["Shift"])
    assert frames_shown(page) == [0, 0]
    page.click("#last")
    assert frames_shown(page) == lasts
    assert clock.text_content() == f"{most:,} tokens of {most:,}"
    page.click("#first")
    assert frames_shown(page) == [0, 0]

    # The clocks: at one cost, after as many actions, as far through.
    page.check("input[value=actions]", force=True)
    page.evaluate("player.seek(40)")
    assert frames_shown(page) == [40, 40]
    assert clock.text_content() == f"action 40 of {max(lasts)}"
    page.click("#forward")
    assert frames_shown(page) == [41, 41]
    page.check("input[value=share]", force=True)
    page.evaluate("player.seekValue(50)")
    assert frames_shown(page) == [last // 2 for last in lasts]
    assert clock.text_content().endswith(" of each run")
    page.check("input[value=cost]", force=True)
    kept = frames_shown(page)
    assert kept[0] == lasts[0] // 2  # the same moment of the first that runs
    check_numbers(page, data, 0, kept[0])

    # The slider.
    box = page.locator("#scrub").bounding_box()
    page.mouse.click(box["x"] + 8 + 0.25 * (box["width"] - 16), box["y"] + 8)
    value = float(page.input_value("#scrub"))
    assert value == pytest.approx(most / 4, rel=0.02)
    costs = [side["frames"]["cost"] for side in data["sides"]]
    assert frames_shown(page) == [sum(cost <= value for cost in own) - 1 for own in costs]
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + 8)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] + 50, box["y"] + 8, steps=5)
    page.mouse.up()
    assert frames_shown(page) == lasts

    # What is right: at the end, or when asked for.
    page.evaluate("player.seek(60)")
    check_numbers(page, data, 0, frames_shown(page)[0])
    assert page.locator("[data-side='0'] .verdict").get_attribute("class").split() == ["verdict"]
    page.click(".switch")
    assert page.is_checked("#correct")
    check_numbers(page, data, 0, frames_shown(page)[0], spoiled=True)
    assert texts(page, 0, "verdict") == [f"correct is {data['gold']}"]
    page.click(".switch")
    check_numbers(page, data, 0, frames_shown(page)[0])

    # Theme, question, knobs.
    page.click("#theme")
    assert page.locator("html").get_attribute("data-theme") == "dark"
    assert page.locator("#theme-name").text_content() == "Dark"
    page.emulate_media(color_scheme="dark")  # chosen: the system's no longer counts
    page.click("#theme")
    assert page.locator("html").get_attribute("data-theme") == "light"
    assert not page.locator("#question-text").is_visible()
    page.click(".question summary")
    assert page.locator("#question-text").inner_text() == data["text"]
    page.click("[data-side='0'] .knobs summary")
    assert "n_init 5, max_branch 34" in page.locator("[data-side='0'] .knobs p").inner_text()

    # Speed: half the speed takes twice as long.
    labels = dict(zip(page.locator("#speed option").evaluate_all("o => o.map((x) => x.value)"),
                      page.locator("#speed option").all_text_contents()))  # fmt: skip
    assert len(labels) == 8
    seconds = min(max(sum(lasts) * 0.02, 6), 30)
    assert labels["1"] == f"1\u00d7 \u00b7 {seconds:.0f} s"
    assert labels["0.5"] == f"\u00bd\u00d7 \u00b7 {2 * seconds:.0f} s"

    # Charts are sliders too.
    for chart in ("votes", "confidence"):
        strip = page.locator(f"[data-side='1'] canvas.{chart}")
        strip.scroll_into_view_if_needed()
        box = strip.bounding_box()
        page.mouse.click(box["x"] + box["width"] / 2, box["y"] + 20)
        assert float(page.input_value("#scrub")) == pytest.approx(most / 2, rel=0.02)
        page.click("#first")


def test_playing_reaches_the_end(one: str, browser: Browser) -> None:  # noqa: F811
    data = data_of(one)
    page = browser.open(one)
    page.select_option("#speed", "8")
    page.evaluate(
        "window.drawn = 0; const draw = () => { drawn += 1; requestAnimationFrame(draw); }; requestAnimationFrame(draw)"
    )
    assert page.get_attribute("#play", "aria-label") == "Play"
    page.click("#play")
    assert page.get_attribute("#play", "aria-label") == "Pause"
    until(page, "!player.playing")
    print(f"{page.evaluate('drawn')} frames drawn")
    last = len(data["sides"][0]["actions"]["move"])
    assert page.get_attribute("#play", "aria-label") == "Play"
    assert frames_shown(page) == [last]
    check_numbers(page, data, 0, last)
    page.click("#play")  # from the end it begins anew
    until(page, "player.playing && player.moment > 0")
    page.click("#play")
    assert 0 < frames_shown(page)[0] < last


def test_the_keyboard(two: str, browser: Browser) -> None:  # noqa: F811
    data = data_of(two)
    lasts = [len(side["actions"]["move"]) for side in data["sides"]]
    page = browser.open(two)

    def press(*keys: str) -> int:
        for key in keys:
            page.keyboard.press(key)
        return sum(frames_shown(page))

    assert press("ArrowRight", "ArrowRight", "ArrowLeft") == 1
    assert press("Shift+ArrowRight") == 11
    assert press("Shift+ArrowLeft") == 1
    assert press("End") == sum(lasts)
    assert press("Home") == 0
    page.select_option("#speed", "0.0625")
    page.evaluate("document.activeElement.blur()")
    press(" ")
    assert page.evaluate("player.playing")
    press(" ")
    assert not page.evaluate("player.playing")

    # The slider, by hand: an action a press, and it says where it is.
    page.focus("#scrub")
    assert press("Home", "ArrowRight", "ArrowUp", "ArrowDown") == 1
    assert press("Home", "PageUp") == round(sum(lasts) / 20)
    assert press("PageDown") == 0
    press("ArrowRight")
    cost = max(side["frames"]["cost"][n] for side, n in zip(data["sides"], frames_shown(page), strict=True))
    assert page.get_attribute("#scrub", "aria-valuetext").startswith(f"{cost:,} tokens of ")
    assert "action 1, branch 0 opened" in page.text_content("#announce")

    # The grid: a cursor over cells, Enter goes to the cell's moment.
    page.evaluate("player.end(player.clock.last)")
    grid = page.locator("[data-side='0'] .marks")
    grid.focus()
    tip = page.locator("[data-side='0'] .tip")
    assert not tip.is_visible()
    press("ArrowDown")  # the first press shows the cursor
    assert "branch 0 \u00b7 interval 1 \u00b7 0\u2013500 tokens" in tip.inner_text()
    press("ArrowDown", "ArrowDown", "ArrowRight")
    assert "branch 2 \u00b7 interval 2 \u00b7 500\u20131,000 tokens" in tip.inner_text()
    actions = data["sides"][0]["actions"]
    read = next(
        k + 1 for k in range(lasts[0])
        if (actions["branch"][k], actions["column"][k]) == (2, 1) and actions["answer"][k] != -2
    )  # fmt: skip
    press("Enter")
    assert frames_shown(page)[0] == read
    press("Escape")
    assert not tip.is_visible()

    # The log.
    page.locator("[data-side='1'] .rows").focus()
    page.keyboard.press("Home")
    assert frames_shown(page)[1] == 0
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    assert frames_shown(page)[1] == 1
    page.keyboard.press("PageDown")
    assert frames_shown(page)[1] > 3
    page.keyboard.press("End")
    assert frames_shown(page)[1] == lasts[1]

    # Tab reaches everything once, and what has the focus is seen to have it.
    page.focus(".question summary")
    reached = ["question"]
    while reached[-1] != "speed":
        page.keyboard.press("Tab")
        focus, visible = page.evaluate(
            """() => { const focus = document.activeElement;
            const name = focus.id || focus.name || focus.classList[0] || focus.textContent;
            return [name, focus.matches(":focus-visible")]; }"""
        )
        assert visible, focus
        reached.append(focus)
    panels = [focus for k in range(2) for focus in ("knobs", "marks", f"log-{k}")]
    buttons = ["first", "back", "play", "forward", "last"]
    assert reached == ["question", "correct", "theme", *panels, "scrub", *buttons, "clock", "speed"]


def test_the_log(one: str, browser: Browser) -> None:  # noqa: F811
    data = data_of(one)
    actions = data["sides"][0]["actions"]
    last = len(actions["move"])
    page = browser.open(one)
    page.click("#last")
    rows = page.locator(".row")
    page.locator(f".row[data-action='{last}']").wait_for()
    assert rows.count() < 40 < last  # only those in sight exist
    names = {
        Move.BRANCH: "opened", Move.CONTINUE: "continued", Move.PROBE: "read", Move.PRUNE: "pruned",
        Move.ANSWER: "answered", Move.END_ROUND: "round",
    }  # fmt: skip

    def expected(n: int) -> list[str]:
        k = n - 1
        move = Move(actions["move"][k])
        ended = actions["ended"][k] and move != Move.PRUNE
        answer = actions["answer"][k]
        return [
            f"{n:,}",
            "ended" if ended else names[move],
            f"branch {actions['branch'][k]}" if actions["branch"][k] >= 0 else "",
            data["answers"][answer]["text"] if answer >= 0 else "no answer" if answer == -1 else "",
            f"+{actions['billed'][k]:,}" if actions["billed"][k] else "",
        ]

    wanted = {actions["move"].index(move) + 1 for move in set(actions["move"])} | {last, last // 2}
    for n in sorted(wanted):
        page.evaluate("(n) => player.seekFrame(0, n)", n)
        row = page.locator(f".row[data-action='{n}']")
        row.wait_for()
        assert row.locator("> span").all_text_contents() == expected(n)
        page.wait_for_selector(f".row.now[data-action='{n}'][aria-selected=true]")
        assert page.get_attribute(".rows", "aria-activedescendant") == row.get_attribute("id")
        inside = page.evaluate(
            """() => { const boxOf = (what) => document.querySelector(what).getBoundingClientRect();
            const [row, rows] = [boxOf(".row.now"), boxOf(".rows")];
            return row.top >= rows.top - 1 && row.bottom <= rows.bottom + 1; }"""
        )
        assert inside, n
    page.evaluate("(n) => player.seekFrame(0, n)", last)
    neighbour = page.locator(f".row[data-action='{last - 3}']")
    neighbour.click()
    assert frames_shown(page) == [last - 3]
    page.locator(".rows").hover()
    page.mouse.wheel(0, -300_000)
    page.locator(".row[data-action='1']").click()
    assert frames_shown(page) == [1]


def colours_in(page: Any, k: int, cells: list[tuple[int, int]], down: float) -> list[list[int]]:
    """The colours of cells of the grid, beside any text, at a share of their height."""
    return page.evaluate(
        """([k, cells, down]) => {
          const grid = player.panels[k].grid;
          const copy = document.createElement("canvas");
          [copy.width, copy.height] = [grid.width, grid.height];
          const pen = copy.getContext("2d", { willReadFrequently: true });
          pen.drawImage(grid.cells, 0, 0);
          return cells.map(([i, column]) => {
            const x = grid.edgeOf(column) + 2;
            const y = grid.top + i * grid.ch + Math.floor((grid.ch - grid.gap) * down);
            return [...pen.getImageData(x, y, 1, 1).data.slice(0, 3)];
          });
        }""",
        [k, cells, down],
    )


@pytest.mark.parametrize("ratio", [1, 2])
def test_a_cell_has_the_colour_of_its_answer(two: str, browser: Browser, ratio: int) -> None:  # noqa: F811
    data = data_of(two)
    page = browser.open(two, dark=True, device_scale_factor=ratio)
    palette = [[*bytes.fromhex(answer["colour"][1:])] for answer in data["answers"]]
    ground = [
        *bytes.fromhex(page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--ground')")[1:])
    ]
    side = data["sides"][0]
    generated = [k + 1 for k, answer in enumerate(side["actions"]["answer"]) if answer == data["unread"]]
    for n in (30, 200, 90, *generated[20:40:5]):
        page.evaluate("(n) => player.seekFrame(0, n)", n)
        own = side["numbers"]
        rows = grid_of(data, side, n)
        kept = [i for i, row in enumerate(rows) if PRUNED not in row]
        cells = [(i, c) for i in kept for c, code in enumerate(rows[i]) if code >= FIRST_ANSWER]
        expected = [palette[own[rows[i][c] - FIRST_ANSWER]] for i, c in cells]
        assert len(cells) > 10
        assert colours_in(page, 0, cells, 0.5) == expected
        unread = [(i, c) for i in kept for c, code in enumerate(rows[i]) if code == UNREAD]
        assert colours_in(page, 0, unread, 0.2) == [ground] * len(unread)  # only a line, in the middle
        assert all(colour != ground for colour in colours_in(page, 0, unread, 0.5))
        assert n not in generated or unread


def test_what_is_painted_does_not_depend_on_how_one_got_there(two: str, browser: Browser) -> None:  # noqa: F811
    page = browser.open(two, width=900, height=700)
    moments = page.evaluate("player.clock.last")
    rng = random.Random(4)
    walk = [rng.randrange(moments + 1) for _ in range(12)]
    walk += [walk[-1] + step for step in (1, -1, 3, -8)] + [moments, moments - 1, 0]
    same = page.evaluate(
        """(walk) => walk.map((moment) => {
          player.seek(moment);
          return player.panels.every(({ grid }) => {
            const shots = () => [grid.cells.toDataURL(), grid.marks.toDataURL()].join();
            const before = shots();
            grid.repaint();
            return before === shots();
          });
        })""",
        walk,
    )
    assert all(same)
    blank = page.evaluate("player.seek(0), player.panels[0].grid.cells.toDataURL()")
    assert blank != page.evaluate("player.end(player.clock.last), player.panels[0].grid.cells.toDataURL()")


def test_ribbons_and_charts_show_what_held(two: str, browser: Browser) -> None:  # noqa: F811
    data = data_of(two)
    page = browser.open(two, dark=True)
    page.click("#last")
    palette = [[*bytes.fromhex(answer["colour"][1:])] for answer in data["answers"]]
    most = max(side["tokens"] for side in data["sides"])
    for k, side in enumerate(data["sides"]):
        frames = side["frames"]
        strips = page.evaluate(
            """(k) => {
              const read = (canvas) => {
                const copy = document.createElement("canvas");
                [copy.width, copy.height] = [canvas.width, canvas.height];
                const pen = copy.getContext("2d", { willReadFrequently: true });
                pen.drawImage(canvas, 0, 0);
                return (x, y) => [...pen.getImageData(x, y, 1, 1).data.slice(0, 3)];
              };
              const { past } = player.timeline;
              const whole = player.panels[k].votes.whole;
              const [ribbon, votes] = [read(past), read(whole)];
              const inner = past.width - 16;
              const middle = k * player.timeline.pitch + 6;
              return {
                ribbon: Array.from({ length: inner }, (_, x) => ribbon(x + 8, middle)),
                votes: Array.from({ length: whole.width }, (_, x) => [x, votes(x, whole.height - 1)]),
              };
            }""",
            k,
        )

        def frame_at(x: int, width: int, frames: dict[str, Any] = frames) -> int:
            value = x / (width - 1) * most
            return -1 if value > frames["cost"][-1] else sum(cost <= value for cost in frames["cost"]) - 1

        checked = 0
        for x in range(0, len(strips["ribbon"]) - 3, 7):
            frame = frame_at(x, len(strips["ribbon"]))
            leader = at(frames["leader"], max(frame, 0))
            ended = frame_at(x + 3, len(strips["ribbon"])) < 0  # the mark of the end
            if frame >= 0 and leader >= 0 and not ended:
                assert strips["ribbon"][x] == palette[leader], x
                checked += 1
        for x, bottom in strips["votes"][::7]:
            frame = frame_at(x, len(strips["votes"]))
            counts = [at(steps, max(frame, 0)) for steps in frames["votes"]]
            lowest = next((bar for bar, count in enumerate(counts[:-1]) if count), None)
            if frame >= 0 and lowest is not None:
                assert bottom == palette[data["bars"][lowest]], x
                checked += 1
        assert checked > 20


def test_pointing_at_a_cell(one: str, browser: Browser) -> None:  # noqa: F811
    data = data_of(one)
    actions = data["sides"][0]["actions"]
    page = browser.open(one)
    page.click("#last")

    def point(i: int, column: int) -> tuple[float, float]:
        spot = page.evaluate(
            """([i, column]) => { const { grid } = player.panels[0]; const box = grid.marks.getBoundingClientRect();
            return [box.left + (grid.edgeOf(column) + grid.cw / 2) / grid.ratio,
                    box.top + (grid.top + (i + 0.5) * grid.ch) / grid.ratio]; }""",
            [i, column],
        )
        page.mouse.move(*spot)
        return spot

    columns = zip(actions["branch"], actions["column"], actions["answer"], strict=True)
    seen = [(i, c, k) for k, (i, c, answer) in enumerate(columns, start=1) if c >= 0 and answer >= 0]
    i, column, action = seen[len(seen) // 2]
    spot = point(i, column)
    tip = page.locator(".tip")
    words = tip.inner_text()
    assert data["answers"][actions["answer"][action - 1]]["text"] in words
    assert f"branch {i} \u00b7 interval {column + 1}" in words
    assert f"by action {action:,} \u00b7 branch at {actions['spent'][action - 1]:,} tokens" in words
    page.mouse.click(*spot)
    assert frames_shown(page) == [action]
    page.click("#first")
    point(i, column)
    assert "not generated yet" in tip.inner_text()
    assert data["answers"][actions["answer"][action - 1]]["text"] not in tip.inner_text()
    page.mouse.move(5, 5)
    assert not tip.is_visible()


def test_a_finger(two: str, browser: Browser) -> None:  # noqa: F811
    data = data_of(two)
    page = browser.open(two, width=390, height=844, has_touch=True, is_mobile=True, device_scale_factor=2)
    box = page.locator("#scrub").bounding_box()
    page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + 8)
    most = max(side["tokens"] for side in data["sides"])
    assert float(page.input_value("#scrub")) == pytest.approx(most / 2, rel=0.03)
    stood = frames_shown(page)
    grid = page.locator("[data-side='0'] .marks").bounding_box()
    page.touchscreen.tap(grid["x"] + 50, grid["y"] + 8)
    assert "branch" in page.locator("[data-side='0'] .tip").inner_text()  # reads, and does not jump
    assert frames_shown(page) == stood
    tip = page.locator("[data-side='0'] .tip").bounding_box()
    assert tip["x"] >= 0
    assert tip["x"] + tip["width"] <= 390
    page.locator("#play").tap()
    until(page, "player.playing")
    page.locator("#play").tap()


def test_on_paper_it_is_the_end_on_white(two: str, browser: Browser) -> None:  # noqa: F811
    data = data_of(two)
    page = browser.open(two, dark=True)
    page.evaluate("player.seek(25)")
    stood = frames_shown(page)
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert page.locator("html").get_attribute("data-theme") == "light"
    assert frames_shown(page) == [len(side["actions"]["move"]) for side in data["sides"]]
    assert not page.locator(".transport").is_visible()
    assert not page.locator(".log").first.is_visible()
    assert page.locator(".verdict").first.is_visible()
    page.emulate_media(media="screen")
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert page.locator("html").get_attribute("data-theme") == "dark"
    assert frames_shown(page) == stood
    assert len(page.pdf()) > 10_000


def test_less_motion(one: str, browser: Browser) -> None:  # noqa: F811
    page = browser.open(one, reduced_motion="reduce")
    page.select_option("#speed", "1")
    page.evaluate(
        """() => { window.stops = new Set();
        const look = () => { stops.add(player.moment); requestAnimationFrame(look); }; look(); }"""
    )
    page.click("#play")
    page.wait_for_timeout(1200)
    page.click("#play")
    assert 2 <= page.evaluate("stops.size") <= 9  # a few jumps a second
    assert page.evaluate("player.panels[0].grid.trail") == 0


def test_three_side_by_side_under_a_budget(browser: Browser) -> None:  # noqa: F811
    limits = Limits(max_branches=8, budget=300_000, probe_cost=20.5)
    html = play([(CMC, 0.5), (SC, 1.0), (ESC, 1.0)], POOL, QUESTION, ORDER, limits=limits)
    data = data_of(html)
    page = browser.open(html, width=1440, dark=True)
    page.click("#last")
    lefts = {page.locator(f"[data-side='{k}']").bounding_box()["y"] for k in range(3)}
    assert len(lefts) == 1
    for k, side in enumerate(data["sides"]):
        check_numbers(page, data, k, len(side["actions"]["move"]))
        cost = side["frames"]["cost"][-1]
        assert cost == side["tokens"] + 20.5 * side["probes"]
        assert texts(page, k, "cost") == [f"cost {cost:,} of 300,000"]


def test_episodes_in_which_nothing_happens(browser: Browser) -> None:  # noqa: F811
    silent = Program("silent", Path("silent.py"), "", {"schedule": lambda beta: {}, "solve": lambda e, k: -1})
    html = play([(Contestant("silent", silent), 0.0)], POOL, 0, 0)
    page = browser.open(html)
    assert page.is_disabled("input[value=cost]")  # nothing is ever spent
    page.keyboard.press("ArrowRight")
    check_numbers(page, data_of(html), 0, 1)
    assert texts(page, 0, "leader", "outcome") == ["nothing", "wrong"]


def test_hostile_strings_are_only_text(browser: Browser) -> None:  # noqa: F811
    html = play([(replace(CMC, name=HOSTILE), 0.5), (SC, 1.0)], hostile_pool(), 0, 0)
    page = browser.open(html)
    page.click("#last")
    assert page.locator("[data-side='0'] [data-field=name]").text_content() == HOSTILE
    assert page.locator("#title").text_content() == f"{HOSTILE}, question 0"
    assert page.title().startswith(HOSTILE[:20])
    assert page.locator("script").count() == 2


# --- the command -----------------------------------------------------------------------------------------------


def test_the_command_writes_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "play.html"
    asked = ["play", "--question", "3", "--controller", "sc:n=4", "asc", "--beta", "0.25,1", "-o", str(out)]
    assert main(asked) == 0
    played = [(contestant("sc:n=4"), 0.25), (contestant("asc"), 1.0)]
    assert out.read_text(encoding="utf-8") == play(played, open_pool(DEFAULT_POOL), 3, 0)
    assert capsys.readouterr().out == f"wrote {out}: open it in a browser\n"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (["--beta", "0.1,0.2,0.3"], "--beta should be one number or one for each of the 2 controllers, found 3"),
        (["--question", "30"], "question should be from 0 to 29 in pool synthetic/aime-v0, found 30"),
        (["--pool", "nothing"], "unknown pool 'nothing'"),
        (["-o", "missing/play.html"], "missing/play.html: cannot be written: the folder missing does not exist"),
    ],
)
def test_a_bad_command_is_named(
    change: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = ["play", "--question", "3", "--controller", "sc:n=4", "asc", "-o", "play.html", *change]
    assert main(asked) != 0
    assert says in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
