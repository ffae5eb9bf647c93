"""``TTSReplay-v0``: one question after another, replayed from recorded branches."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from tts_gym.engine.reference import Episode
from tts_gym.errors import IllegalMove, UsageError
from tts_gym.pools import DEFAULT_POOL, Pool, open_pool, with_grading
from tts_gym.programs.primitives import active_votes, confidence, majority, top_two
from tts_gym.programs.runner import Limits, reference_episode

BRANCH, ANSWER = 0, 1
_BRANCH_FIELDS = 8
_GLOBAL_FIELDS = 9


@lru_cache(maxsize=8)
def _opened(pool: str, grading: str) -> Pool:
    return with_grading(open_pool(pool), grading)


class TTSReplayEnv(gym.Env[NDArray[np.float32], np.int64]):
    """Spend a language model's test-time compute on one question, replayed from recorded branches.

    ## Description
    A question has N recorded branches of reasoning, cut into intervals of a fixed number of tokens. The agent
    opens branches, lets them run, reads their current answers, gives some up, and answers. No model is called:
    every token was recorded. The rules are those of ``tts_gym.engine.reference``.

    ## Action Space
    ``Discrete(2 + 3 W)`` with W = ``max_branches``; branches are numbered in the order of opening.

    | action | meaning |
    |---|---|
    | 0 | BRANCH: open the next branch and generate its first interval |
    | 1 | ANSWER with the majority of the latest answers of all branches that were not pruned |
    | 2 + i | CONTINUE(i): generate one more interval of branch i, or see it end |
    | 2 + W + i | PROBE(i): read branch i's current answer, once per depth |
    | 2 + 2W + i | PRUNE(i): give branch i up |

    An illegal action does nothing, costs nothing and sets ``info["illegal"]``; with ``strict=True`` it raises
    ``IllegalMove``. ANSWER is always legal.

    ## Observation Space
    ``Box(0, 1, (8 W + 9,), float32)``. First, for each branch in order of opening, all 0 while unopened:
    opened; live; finished; pruned; depth / most intervals in the pool; whether the answer at this depth is known;
    share of the votes that went to its answer; whether its answer leads. A branch votes with its latest
    known answer unless it was pruned.
    Then: opened / W; live / W; finished / W; tokens / (tokens + 100,000); remaining budget / budget (1 without
    one); share of the leading answer; share of the runner-up; confidence of the leader over the runner-up
    (``programs.confidence``); votes / W.

    Nothing here depends on gold, on unrevealed answers or on which question it is.

    ## Starting State
    Nothing is opened. Question and order are drawn from ``np_random``, or given by
    ``reset(options={"question": q, "order": s})``.

    ## Rewards
    ``-cost_weight * (cost of this action)``, cost in tokens plus ``probe_cost`` per probe; at ANSWER also 1 if
    the answer is correct. The sum over an episode is correctness minus ``cost_weight`` times its cost.

    ## Episode End
    ``terminated`` at ANSWER. Never ``truncated`` by the environment itself.

    ## Information
    ``action_mask`` (int8[2 + 3W], 1 = legal), ``cost`` (float, so far), ``tokens`` (int, so far), ``illegal``
    (bool, the last action was); after ANSWER also ``correct`` (bool).

    ## Arguments
    - ``pool``: a pool, its name or its file; the shipped default if None.
    - ``max_branches``: W, the most branches that may be opened.
    - ``budget``: most cost per episode in tokens, None for no limit.
    - ``probe_cost``: cost of one probe in tokens.
    - ``cost_weight``: reward lost per token.
    - ``grading``: ``exact`` or ``math``.
    - ``questions``: indices to draw from, None for all.
    - ``strict``: raise on illegal actions.
    - ``render_mode``: ``ansi``, one line per branch, or None.

    ## References
    AutoTTS, arXiv 2605.08083, section 2.

    ## Version History
    - v0: first version; scalar, atomic actions.
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi"], "render_fps": 8}  # noqa: RUF012 (as Gymnasium declares it)

    def __init__(
        self,
        pool: Pool | str | Path | None = None,
        *,
        max_branches: int = 64,
        budget: float | None = None,
        probe_cost: float = 0.0,
        cost_weight: float = 1e-6,
        grading: str = "exact",
        questions: list[int] | None = None,
        strict: bool = False,
        render_mode: str | None = None,
    ) -> None:
        if isinstance(pool, Pool):
            self.pool = with_grading(pool, grading)
        else:
            self.pool = _opened(str(pool or DEFAULT_POOL), grading)
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise UsageError(f"render_mode should be None or 'ansi', found '{render_mode}'")
        recording = self.pool.recording
        self.questions = list(range(recording.questions)) if questions is None else list(questions)
        if not self.questions or not all(0 <= q < recording.questions for q in self.questions):
            raise UsageError(f"questions should be indices from 0 to {recording.questions - 1}, found {questions}")
        self.max_branches, self.cost_weight, self.strict = max_branches, cost_weight, strict
        self.limits = Limits(max_branches, budget, probe_cost)
        self.render_mode = render_mode
        self.action_space = spaces.Discrete(2 + 3 * max_branches)
        shape = (_BRANCH_FIELDS * max_branches + _GLOBAL_FIELDS,)
        self.observation_space = spaces.Box(0.0, 1.0, shape, np.float32)
        self._correct = self.pool.correct(grading)
        self._deepest = max(1, int(recording.intervals.max()))
        self.question = -1
        self.episode: Episode | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin an episode; see the class for ``options``."""
        super().reset(seed=seed)
        options = options or {}
        unknown = set(options) - {"question", "order"}
        if unknown:
            raise UsageError(f"unknown reset option '{min(unknown)}'; the options are order, question")
        drawn = self.questions[int(self.np_random.integers(len(self.questions)))]
        order = int(self.np_random.integers(2**31))
        self.question = int(options.get("question", drawn))
        if not 0 <= self.question < self.pool.recording.questions:
            raise UsageError(f"question should be from 0 to {self.pool.recording.questions - 1}, found {self.question}")
        order = int(options.get("order", order))
        self.episode = reference_episode(self.pool.recording, self.question, order, self.limits)
        return self._observation(), self._info(illegal=False)

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Take one action; see the class."""
        episode = self._running()
        if episode.answered is not None:
            raise gym.error.ResetNeeded("the episode has ended; call reset() first")
        before = episode.cost
        try:
            self._move(episode, int(action))
        except IllegalMove:
            if self.strict:
                raise
            return self._observation(), 0.0, False, False, self._info(illegal=True)
        reward = -self.cost_weight * (episode.cost - before)
        info = self._info(illegal=False)
        terminated = episode.answered is not None
        if episode.answered is not None:
            right = episode.answered >= 0 and self._correct[self.question, episode.revealed[episode.answered]]
            info["correct"] = bool(right)
            reward += float(right)
        return self._observation(), reward, terminated, False, info

    def action_masks(self) -> NDArray[np.bool_]:
        """bool[2 + 3W]: which actions are legal now."""
        episode, w = self._running(), self.max_branches
        mask = np.zeros(2 + 3 * w, dtype=np.bool_)
        if episode.answered is None:
            mask[BRANCH] = not episode.why_not_branch()
            mask[ANSWER] = True
            for i in episode.live_branches():
                mask[2 + i] = not episode.why_not_advance(i)
                mask[2 + w + i] = not episode.why_not_probe(i)
                mask[2 + 2 * w + i] = True
        return mask

    def render(self) -> str | None:
        """One line per opened branch: its depth, state and latest answer number."""
        if self.render_mode != "ansi":
            return None
        episode = self._running()
        lines = [f"question {self.question}: {episode.opened} branches, {episode.tokens:,} tokens"]
        for i in range(episode.opened):
            state = "pruned" if episode.pruned[i] else "finished" if episode.finished[i] else "live"
            answer = f"answer {episode.latest[i]}" if episode.latest[i] >= 0 else "no answer read"
            lines.append(f"{i:3} {'=' * episode.depth[i]} {state}, {answer}")
        return "\n".join(lines)

    def _running(self) -> Episode:
        if self.episode is None:
            raise gym.error.ResetNeeded("call reset() before the first step")
        return self.episode

    def _move(self, episode: Episode, action: int) -> None:
        if action == BRANCH:
            episode.branch()
        elif action == ANSWER:
            episode.answer(majority(active_votes(episode)))
        else:
            kind, i = divmod(action - 2, self.max_branches)
            moves: list[Callable[[int], Any]] = [episode.advance, episode.probe, episode.prune]
            moves[kind](i)

    def _info(self, *, illegal: bool) -> dict[str, Any]:
        episode = self._running()
        mask = self.action_masks().astype(np.int8)
        return {"action_mask": mask, "cost": episode.cost, "tokens": episode.tokens, "illegal": illegal}

    def _observation(self) -> NDArray[np.float32]:
        episode, w = self._running(), self.max_branches
        votes = [vote for vote in active_votes(episode) if vote >= 0]
        leader, first, second = top_two(votes)
        observation = np.zeros(self.observation_space.shape or (), dtype=np.float32)
        branches = observation[: _BRANCH_FIELDS * w].reshape(w, _BRANCH_FIELDS)
        for i in range(episode.opened):
            finished, pruned, answer = episode.finished[i], episode.pruned[i], episode.latest[i]
            share = votes.count(answer) / len(votes) if answer >= 0 and votes else 0.0
            known = finished or episode.probed[i] == episode.depth[i]
            live = not (finished or pruned)
            leads = answer >= 0 and answer == leader
            branches[i] = (1, live, finished, pruned, episode.depth[i] / self._deepest, known, share, leads)
        total, budget = max(1, len(votes)), episode.budget
        observation[_BRANCH_FIELDS * w :] = (
            episode.opened / w,
            episode.live / w,
            sum(episode.finished) / w,
            episode.tokens / (episode.tokens + 100_000),
            1.0 if budget is None else max(0.0, 1 - episode.cost / budget) if budget > 0 else 0.0,
            first / total,
            second / total,
            confidence(first, second),
            len(votes) / w,
        )
        return observation
