"""The player: an episode as a page that plays it, one HTML file that needs nothing beside it.

Every number on the page is computed here, by the reference engine and the primitives; ``player*.js`` only shows
them. The page holds the episode as JSON: what each action did (``_actions``), and what held after it (``_frames``).
Frame 0 is before the first action, frame n after n actions. Answers are numbered as ``_Answers`` says, the same for
every controller of the page, so that an answer has one colour.
"""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tts_gym.engine.moves import Move
from tts_gym.engine.reference import Episode
from tts_gym.envs.scene import Scene, answer_colour, percent, replayed
from tts_gym.errors import UsageError
from tts_gym.evaluation.contestants import Contestant
from tts_gym.files import written_whole
from tts_gym.pools.grading import with_grading
from tts_gym.pools.pool import Pool
from tts_gym.programs.primitives import active_votes, confidence, top_two
from tts_gym.programs.program import Number
from tts_gym.programs.runner import Limits, reference_episode, run_program, trace_program

MOST_CONTROLLERS = 3
_MOST_ROWS = 8  # answers with a bar of their own; the others share one
_LONGEST = 300  # characters of an answer; some models write essays
_NO_ANSWER, _UNREAD = -1, -2
_SCRIPTS = ("player_grid.js", "player_charts.js", "player_log.js", "player.js")


def play(
    controllers: Sequence[tuple[Contestant, float]],
    pool: Pool,
    question: int,
    order: int,
    *,
    grading: str = "exact",
    limits: Limits | None = None,
) -> str:
    """A page that plays one episode, or the same question and order under up to three controllers side by side.

    Args:
        controllers: contestants, each with its beta; programs run interpreted, on the reference engine.
        pool: where the question is from.
        question: its index.
        order: number of the order of branches.
        grading: ``exact`` or ``math``.
        limits: width, budget and probe cost; unlimited and free by default.

    Returns:
        The text of the HTML file. It loads nothing from anywhere.

    Raises:
        UsageError: no controller or too many, no such question, order or grading.
        ProgramError: a program fails or makes an illegal move; the message says where.
    """
    if not 1 <= len(controllers) <= MOST_CONTROLLERS:
        raise UsageError(f"a player shows 1 to {MOST_CONTROLLERS} controllers, found {len(controllers)}")
    if not 0 <= question < pool.recording.questions:
        raise UsageError(
            f"question should be from 0 to {pool.recording.questions - 1} in pool {pool.name}, found {question}"
        )
    if order < 0:
        raise UsageError(f"an order should be a number from 0 on, found {order}")
    pool, limits = with_grading(pool, grading), limits or Limits()
    knobs = [contestant.knobs(beta) for contestant, beta in controllers]  # wrong usage comes before any work
    runs = [
        _run(contestant, beta, values, pool, question, order, limits)
        for (contestant, beta), values in zip(controllers, knobs, strict=True)
    ]
    answers = _Answers.of(runs, pool.vocabulary[question], pool.correct(grading, [question])[0])
    names = " vs ".join(f"{run.contestant.name} at beta {run.beta:g}" for run in runs)
    data = {
        "pool": pool.name,
        "question": question,
        "order": order,
        "text": pool.questions[question],
        "gold": pool.gold[question],
        "grading": grading,
        "delta": pool.recording.delta,
        "budget": limits.budget,
        "probe_cost": limits.probe_cost,
        "rows": max(run.scene.opened for run in runs),
        "columns": max(int((run.scene.cells > 0).sum(axis=1).max(initial=1)) for run in runs),
        "moves": {move.name: move.value for move in Move},
        "unread": _UNREAD,
        "answers": answers.shown(),
        "bars": answers.bars,
        "sides": [_side(run, answers) for run in runs],
    }
    return _page(f"{names} \u00b7 {pool.name}, question {question}", data)


def save_page(page: str, path: str | Path) -> None:
    """Write what ``play`` returned to a file, whole or not at all.

    Raises:
        UsageError: the file cannot be written.
    """
    with written_whole(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


# --- one controller ---------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Run:
    """A controller's episode: its action log, each step of its replay, and how it ended."""

    contestant: Contestant
    beta: float
    knobs: dict[str, Number]
    log: list[tuple[Move, int]]
    steps: list[_Step]
    scene: Scene
    answered: int
    codes: list[int]  # by answer number, its code in the pool
    sequential_tokens: int
    peak_width: int


@dataclass(frozen=True, eq=False)
class _Step:
    """What held after an action (or, in the first, before any).

    ``column``, ``answer`` (a number of the episode), ``spent`` and ``ended`` tell what the action did to its branch.
    """

    tokens: int
    cost: float
    sequential: int
    probes: int
    opened: int
    live: int
    finished: int
    pruned: int
    votes: list[int]
    finals: list[int]
    column: int = -1
    answer: int = _UNREAD
    spent: int = 0
    ended: bool = False


def _run(
    contestant: Contestant,
    beta: float,
    knobs: dict[str, Number],
    pool: Pool,
    question: int,
    order: int,
    limits: Limits,
) -> _Run:
    program, recording = contestant.program, pool.recording
    # What a program can do wrong is found, and said, by the runner.
    run_program(program, recording, knobs, questions=[question], orders=[order], limits=limits, interpreted=True)
    trace = trace_program(program, recording, knobs, question=question, order=order, limits=limits)
    log = [(move, int(operand)) for move, operand in trace]  # a program may answer with a NumPy number
    episode = reference_episode(recording, question, order, limits)
    steps = [_after(episode)]
    for move, operand in log:
        _make(episode, move, operand)
        steps.append(_after(episode, move, operand))
    return _Run(
        contestant=contestant,
        beta=float(beta),
        knobs=knobs,
        log=log,
        steps=steps,
        scene=replayed(recording, question, order, limits, log, pool=pool.name),
        answered=log[-1][1],
        codes=list(episode.revealed),
        sequential_tokens=episode.sequential_tokens,
        peak_width=episode.peak_width,
    )


def _make(episode: Episode, move: Move, operand: int) -> None:
    """Make a move of an action log."""
    if move is Move.BRANCH:
        episode.branch()
    elif move is Move.END_ROUND:
        episode.end_round()
    else:
        moves = {
            Move.CONTINUE: episode.advance, Move.PROBE: episode.probe, Move.PRUNE: episode.prune,
            Move.ANSWER: episode.answer,
        }  # fmt: skip
        moves[move](operand)


def _after(episode: Episode, move: Move | None = None, i: int = -1) -> _Step:
    """What holds now; ``move`` is the last one."""
    finished, pruned = sum(episode.finished), sum(episode.pruned)
    step = _Step(
        tokens=episode.tokens,
        cost=episode.cost,
        sequential=episode.sequential_tokens,
        probes=episode.probes,
        opened=episode.opened,
        live=episode.live,
        finished=finished,
        pruned=pruned,
        votes=active_votes(episode),
        finals=[answer for answer, ended in zip(episode.latest, episode.finished, strict=True) if ended],
    )
    if move is None or move is Move.END_ROUND:
        return step
    if move is Move.ANSWER:
        return replace(step, answer=i)
    if move is Move.PRUNE:
        return replace(step, spent=episode.spent[i], ended=True)
    ended = episode.finished[i]
    return replace(
        step,
        column=episode.depth[i] if ended else episode.depth[i] - 1,  # the final answer stands after the last interval
        answer=episode.latest[i] if ended or move is Move.PROBE else _UNREAD,
        spent=episode.spent[i],
        ended=ended,
    )


# --- answers ----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Answers:
    """The answers that any controller of the page saw, numbered for the page.

    First those that mattered (``Scene.slots``), in the order in which they came to matter to the controllers, then the
    passing ones. With one controller the colours are those of its pictures.

    Attributes:
        numbers: by code, the number on the page.
        texts: by number, the answer string.
        right: by number, whether it is correct.
        scene: any scene, its slots replaced by the page's, for ``answer_colour``.
        bars: the numbers with a bar of their own, in order.
    """

    numbers: dict[int, int]
    texts: list[str]
    right: list[bool]
    scene: Scene
    bars: list[int]

    @classmethod
    def of(cls, runs: Sequence[_Run], vocabulary: Sequence[str], correct: NDArray[np.bool_]) -> _Answers:
        """The answers of these runs."""
        ranks: dict[int, tuple[int, int, int]] = {}
        for k, run in enumerate(runs):
            for number, code in enumerate(run.codes):
                slot = run.scene.slots[number]
                rank = (0, slot, k) if slot >= 0 else (1, number, k)
                ranks[code] = min(rank, ranks.get(code, rank))
        codes = sorted(ranks, key=lambda code: ranks[code])
        numbers = {code: number for number, code in enumerate(codes)}
        most = [0] * len(codes)
        for run in runs:
            for votes in _distinct(run.steps):
                for code, count in _counts(votes, run.codes).items():
                    most[numbers[code]] = max(most[numbers[code]], count)
        mattered = sum(rank[0] == 0 for rank in ranks.values())
        given = {numbers[run.codes[number]] for run in runs if (number := run.answered) >= 0}
        wanted = sorted(range(mattered), key=lambda number: (number not in given, -most[number], number))
        return cls(
            numbers=numbers,
            texts=[_shortened(vocabulary[code]) for code in codes],
            right=[bool(correct[code]) for code in codes],
            scene=replace(runs[0].scene, slots=(*range(mattered), *[-1] * (len(codes) - mattered))),
            bars=sorted(wanted[:_MOST_ROWS]),
        )

    def shown(self) -> list[dict[str, Any]]:
        """Text, colour and correctness of each, for the page."""
        colours = [bytes(answer_colour(self.scene, number)).hex() for number in range(len(self.texts))]
        return [
            {"text": text, "colour": f"#{colour}", "right": right}
            for text, colour, right in zip(self.texts, colours, self.right, strict=True)
        ]


def _distinct(steps: Sequence[_Step]) -> list[list[int]]:
    """The votes wherever they changed."""
    return [step.votes for before, step in zip([None, *steps], steps) if before is None or before.votes != step.votes]


def _counts(votes: Sequence[int], codes: Sequence[int]) -> dict[int, int]:
    """Votes per answer code."""
    counts: dict[int, int] = {}
    for vote in votes:
        if vote >= 0:
            counts[codes[vote]] = counts.get(codes[vote], 0) + 1
    return counts


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "\u2026"


# --- the data of the page ---------------------------------------------------------------------------


def _side(run: _Run, answers: _Answers) -> dict[str, Any]:
    """One controller's part of the data."""
    page = [answers.numbers[code] for code in run.codes]  # by answer number of the episode
    end = run.scene
    given = page[run.answered] if run.answered >= 0 else _NO_ANSWER
    return {
        "name": run.contestant.name,
        "beta": run.beta,
        "knobs": run.knobs,
        "summary": run.contestant.program.summary,
        "numbers": page,
        "answer": given,
        "correct": given >= 0 and answers.right[given],
        "tokens": end.tokens,
        "sequential_tokens": run.sequential_tokens,
        "peak_width": run.peak_width,
        "probes": end.probes,
        "branches": end.opened,
        "actions": _actions(run, page),
        "frames": _frames(run, page, answers),
    }


def _actions(run: _Run, page: Sequence[int]) -> dict[str, list[int]]:
    """What each action did: lists over actions.

    move, branch: of the action log; branch is -1 where there is none.
    column: of the grid cell it generated or read, -1 for none.
    answer: number on the page of the answer it revealed or gave, -1 for "no answer", -2 where it revealed none.
    ended: 1 if its branch ended or was pruned by it.
    billed: tokens it cost.
    spent: tokens its branch has cost so far.
    """
    after = run.steps[1:]
    return {
        "move": [int(move) for move, _ in run.log],
        "branch": [i if move not in (Move.ANSWER, Move.END_ROUND) else -1 for move, i in run.log],
        "column": [step.column for step in after],
        "answer": [page[step.answer] if step.answer >= 0 else step.answer for step in after],
        "ended": [int(step.ended) for step in after],
        "billed": [step.tokens - before.tokens for before, step in zip(run.steps, after)],
        "spent": [step.spent for step in after],
    }


def _frames(run: _Run, page: Sequence[int], answers: _Answers) -> dict[str, Any]:
    """What held after each action.

    tokens, cost, sequential: lists over frames, in tokens.
    The rest are steps, ``{"at": frames, "value": values}``: the value from one frame on until the next.

    probes, opened, live, finished, pruned: counts.
    leader: number on the page of the answer with most votes, ties to the first in opening order; -1 for none.
    confidence, said: of the leader over the runner-up, and the same in words.
    total, right: votes of branches that were not pruned, and how many of them are for a correct answer.
    votes, finals: per bar, and last for all other answers, the votes, and those of them by finished branches.
    """
    steps = run.steps
    counts = ("probes", "opened", "live", "finished", "pruned")
    looks = ("leader", "confidence", "said", "total", "right")
    standings: list[dict[str, Any]] = []
    for before, step in zip([None, *steps], steps):
        same = before is not None and (before.votes, before.finals) == (step.votes, step.finals)
        standings.append(standings[-1] if same else _standing(step, page, answers))
    rows = range(len(answers.bars) + 1)
    return {
        "tokens": [step.tokens for step in steps],
        "cost": [_short(step.cost) for step in steps],
        "sequential": [step.sequential for step in steps],
        **{name: _steps([getattr(step, name) for step in steps]) for name in counts},
        **{name: _steps([now[name] for now in standings]) for name in looks},
        **{name: [_steps([now[name][row] for now in standings]) for row in rows] for name in ("votes", "finals")},
    }


def _standing(step: _Step, page: Sequence[int], answers: _Answers) -> dict[str, Any]:
    """How the votes stand; see ``_frames``."""
    leader, first, second = top_two(step.votes)
    sure = confidence(first, second)
    votes, finals = ([page[vote] for vote in some if vote >= 0] for some in (step.votes, step.finals))
    return {
        "leader": page[leader] if leader >= 0 else _NO_ANSWER,
        "confidence": sure,
        "said": percent(sure),
        "total": len(votes),
        "right": sum(answers.right[number] for number in votes),
        "votes": _tally(votes, answers.bars),
        "finals": _tally(finals, answers.bars),
    }


def _tally(votes: Sequence[int], bars: Sequence[int]) -> list[int]:
    """Votes per bar, and last those for all other answers."""
    tally = [votes.count(number) for number in bars]
    return [*tally, len(votes) - sum(tally)]


def _steps(values: Sequence[Any]) -> dict[str, list[Any]]:
    """A list over frames, kept only where it changes."""
    at = [frame for frame, value in enumerate(values) if frame == 0 or value != values[frame - 1]]
    return {"at": at, "value": [values[frame] for frame in at]}


def _short(number: float) -> float:
    """A whole number without its ``.0``."""
    return int(number) if number == int(number) else number


# --- the page ---------------------------------------------------------------------------------------


def _page(title: str, data: dict[str, Any]) -> str:
    """The templates as one file, then what the user wrote: it has no ``<`` any more, so no mark to be filled."""
    text = _template("player.html")
    text = text.replace("/* style */", _template("player.css"))
    text = text.replace("/* script */", "\n".join(map(_template, _SCRIPTS)))
    text = text.replace("<!-- title -->", html.escape(title.encode(errors="replace").decode()))
    return text.replace("<!-- data -->", _embedded(data))


def _template(name: str) -> str:
    return (resources.files("tts_gym.evaluation") / name).read_text(encoding="utf-8")


def _embedded(data: dict[str, Any]) -> str:
    """JSON that can stand inside a script element: no character in it ends, opens or escapes one."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c").replace(">", "\\u003e")
