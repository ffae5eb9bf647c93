"""``TTSReplay-v0``: one question after another, replayed from recorded branches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from tts_gym.envs import kernel, rendering
from tts_gym.envs.replay import Aggregation, PoolSpec, Replay, checked_weight
from tts_gym.envs.scene import text
from tts_gym.errors import IllegalMove, UsageError


class TTSReplayEnv(gym.Env[NDArray[Any], np.int64]):
    """Spend a language model's test-time compute on one question, replayed from recorded branches.

    ## Description
    A question has N recorded branches of reasoning, cut into intervals of Δ tokens. The agent opens branches, lets
    them run, reads their current answers, gives some up, and answers. No model is called: every token was recorded.
    What the moves BRANCH, CONTINUE, PROBE, PRUNE and ANSWER do, cost and need is said in
    ``tts_gym.engine.reference`` (in words: docs/rules.md). Branches are numbered 0, 1, ... as they are opened.

    A *reading* reveals a branch's answer: a PROBE at its depth, or its end. Answers are numbered 0, 1, ... in the
    order in which the episode first revealed them; -1 is "no answer could be parsed". A branch *votes* with its
    latest answer, unless that is -1, it was never read, or it was pruned. The *leader* is the answer with the most
    votes, of equals the one that the first branch votes for; -1 without votes. The *runner-up* has the second most.
    Both are found anew after every reading and pruning, also inside a round.

    ## Action Space
    ``Discrete(A)``. With W = ``max_branches``:

    ``actions="atomic"``: A = 2 + 3W, or 2 + 4W with ``answer_with_branch=True``.

    | action | meaning |
    |---|---|
    | 0 | BRANCH: open the next branch and generate its first interval |
    | 1 | ANSWER with the aggregated answer (see ``aggregation``) |
    | 2 + i | CONTINUE(i): generate one more interval of branch i, or find that it has ended |
    | 2 + W + i | PROBE(i): read branch i's current answer, once per depth |
    | 2 + 2W + i | PRUNE(i): give branch i up |
    | 2 + 3W + i | ANSWER with the latest answer of an opened branch i, pruned or not; -1 if it has none |

    With ``auto_probe=True`` BRANCH and CONTINUE are followed by a PROBE of the same branch if that is legal then.

    ``actions="rounds"``: A = 10. Each is a series of atomic moves at their usual cost, and ends the round
    (sequential tokens). *Advancing* is CONTINUE, then PROBE if legal. Branches are taken in opening order, and a
    move that has become illegal (budget) is left out.

    | action | meaning |
    |---|---|
    | 0, 2, 3, 4 | OPEN 1, 2, 4, 8: so many times BRANCH, then PROBE if legal; as many as are allowed |
    | 1 | ANSWER with the aggregated answer |
    | 5 | ADVANCE_ALL: advance every live branch |
    | 6 | ADVANCE_AGREEING: advance the live branches that vote for the leader (as the round begins) |
    | 7 | PRUNE_DISSENTERS: prune the live branches whose last ``patience`` readings or more were against the leader |
    | 8 | FINISH_NEAREST: CONTINUE the deepest live branch (of equals the first) to its end, unread |
    | 9 | FINISH_ALL: CONTINUE every live branch to its end, unread |

    They are what the published controllers do with many branches at once: eight at a time to their ends (ESC, and SC
    with all of them), one at a time to its end (ASC), all live branches one interval (Parallel-Probe), those with the
    leader further than the others (CMC), stubborn ones pruned (both). SC, ASC and ESC can be played in them to the
    last token; the others' own counters cannot, but a learner has the like in its observation. An episode takes tens
    of decisions where atomic actions take thousands.

    The mask (``info["action_mask"]`` and ``env.get_wrapper_attr("action_masks")()``) is the admissible set. Action 1
    is always legal. An atomic action is legal if its move is; OPEN if BRANCH is; 5, 8 and 9 if there is a live branch
    and CONTINUE fits in the budget; 6 if moreover a live branch votes for the leader; 7 if there is a branch to prune.
    An illegal action does nothing, costs nothing and sets ``info["illegal"]``; with ``strict=True`` it raises
    ``IllegalMove`` and counts for nothing.

    ## Observation Space
    Nothing observed depends on gold, on answers not yet read, on branches or intervals not yet generated, or on
    which question it is; of the pool it tells how many branches there are, once they are open, and Δ, by the tokens.

    ``observation="features"``: ``Box(float32)`` of length 32 + 18W; all in [0, 1], but ``confidence_trend`` in [-1, 1].
    Below, x|c stands for x / (x + c), and a share of nothing is 0. Three blocks follow each other:

    *Global*, 32 numbers in this order (``layout.GLOBAL_FEATURES``):

    | name | value |
    |---|---|
    | opened, live, finished, pruned | branches in that state / W |
    | cost | cost so far, in tokens, | 100,000 |
    | budget_left_share | what is left of the budget / budget, at least 0; 1 without one |
    | budget_left | what is left of the budget, at least 0, | 100,000; 1 without one |
    | probes | PROBE moves | 64 |
    | steps | actions taken, illegal ones included, | 256 |
    | cost_since_leader | cost since the leader became the leader, without one since the start, | 100,000 |
    | agreeing_share | live branches that vote for the leader / live branches |
    | unread_share | live branches not read at their depth / live branches |
    | deepest | intervals of the deepest branch that was opened | 16 |
    | mean_depth | mean intervals of the live branches | 16 |
    | stubborn_share | live branches with a dissent of ``patience`` or more / live branches |
    | tokens_per_branch | tokens / branches opened | 8,000 |
    | votes | votes / W |
    | leader_share, runner_up_share | of the votes |
    | margin | leader_share - runner_up_share |
    | confidence | that the leader is truly ahead: ``programs.confidence`` of their votes; 0 without votes |
    | confidence_average | moving average a of confidence c over readings: a = c at the first, then a += 0.1 (c - a) |
    | confidence_trend | confidence - confidence_average |
    | entropy | of the votes' distribution / log(votes); 0 below two votes |
    | distinct_answers | answers with a vote | 4 |
    | leader_age | readings after the one at which the leader took over, without one since the start, | 16 |
    | leader_changes | times that an answer has been replaced as leader, also by none, | 4 |
    | finished_votes | votes of finished branches / W |
    | leader_share_of_finished | share of the leader in them |
    | unparsed_share | of the branches that were read and not pruned, those whose latest answer is -1 |
    | stable_share | of the votes, those whose branch has a streak of 2 or more |
    | answers_seen | answers revealed so far | 8 |

    *Votes*, 2 numbers for each of W: the share of all votes that its vote's answer has, and 1 if that is the leader; 0
    and 0 where the branch does not vote.

    *Branches*, 16 numbers for each of W, all 0 while it is not opened (``layout.BRANCH_FEATURES``):

    | name | value |
    |---|---|
    | opened, live, finished, pruned | 0 or 1 |
    | depth | intervals generated | 16 |
    | read_here | 1 if its answer at this depth is known, by a probe or because it finished |
    | has_answer | 1 if its latest answer is not -1 |
    | unparsed | 1 if it was read and its latest answer is -1 |
    | streak | its latest readings in a row with one answer (-1 counts as one) | 4 |
    | changes | readings that differed from the one before | 4 |
    | readings | readings | 16 |
    | dissent | its latest readings in a row that differed from the leader, each by the votes right after it, | 4 |
    | tokens | tokens billed for it | 8,000 |
    | unread_intervals | intervals since its last probe | 4; 0 when finished |
    | answer | 1 / (1 + its latest answer); 0 without one |
    | position | (i + 1) / W |

    A move changes little of this: its own branch's 16 numbers, the first 16 global ones, the others at a reading, and
    the block between when a vote changed. That layout is what makes the vector environment fast.

    ``observation="grid"``: ``Box(0, 32767, (W, D + 2), int16)``, D being the most intervals that the pools
    have room for. Cell (i, d):

    | cell | meaning |
    |---|---|
    | 0 | nothing generated (yet) |
    | 1 | interval d of branch i was generated and not read (intervals count from 0) |
    | 2 | after the last cell of a finished branch |
    | 3 | after the last interval of a pruned branch |
    | 4 | read: no answer |
    | 5 + n | read: answer number n |

    A finished branch of L intervals has its final answer in cell L and a 2 in cell L + 1.

    ## Starting State
    Nothing is opened. Pool, question and order are drawn from ``np_random``: the pool (only where there are several)
    by ``pool_weights``, then a question, then an order, each by one ``random()``. ``reset`` takes
    ``options={"pool": ..., "question": q, "order": s}`` to replay exactly, each of them or some; the draws are made in
    any case.

    ## Rewards
    Accuracy minus γ times cost, γ = ``cost_weight`` per token. Each step: γ·(cost before) - γ·(cost after), cost being
    tokens plus ``probe_cost`` per probe; at ANSWER also 1 if the answer is correct under ``grading``. The sum over an
    episode is correctness - γ·cost: to the last bit where γ is a power of two and costs are whole, as by default.

    ## Episode End
    ``terminated`` at ANSWER. The environment never sets ``truncated`` by itself: legal moves run out, and then only
    ANSWER is left. Illegal actions can go on for ever; give ``max_episode_steps`` to ``gym.make`` against that.

    ## Information
    | key | when | value |
    |---|---|---|
    | ``action_mask`` | always | int8[A], 1 = legal; after the end only action 1, so that something always is |
    | ``cost`` | always | float, tokens plus ``probe_cost`` per probe so far |
    | ``tokens``, ``probes`` | always | int, so far |
    | ``illegal`` | always | bool, the last action was |
    | ``correct`` | after ANSWER | bool |
    | ``pool``, ``question``, ``order`` | after ANSWER | int, what was replayed; ``pool`` is its index |
    | ``branches``, ``peak_width`` | after ANSWER | int, opened, and most live at once |
    | ``sequential_tokens`` | after ANSWER | int, sum over rounds of the longest branch's tokens |

    ## Arguments
    - ``pool``: a pool, its name or its file, or a list of them; None for the shipped one.
    - ``max_branches``: W, the most branches that may be opened; 64.
    - ``budget``: the most an episode may cost, in tokens; None for no limit.
    - ``probe_cost``: cost of one probe in tokens; 0.
    - ``cost_weight``: γ, reward per token; 2**-20, so that 1,048,576 tokens weigh as much as one right answer.
      ``env.unwrapped.cost_weight`` may be set between episodes.
    - ``actions``: ``atomic`` or ``rounds``.
    - ``observation``: ``features`` or ``grid``.
    - ``grading``: ``exact`` or ``math``.
    - ``questions``: numbers of the questions to draw from, e.g. a training split; with several pools a list of such
      lists; None for all. ``reset`` may ask for others.
    - ``orders``: how many orders to draw from, beginning at 0, or a list of them; 1024. ``reset`` may ask for others.
    - ``pool_weights``: how often each pool is drawn, relative to the others; None for equally.
    - ``auto_probe``: read each interval as it is generated, as the published controllers do (``atomic`` only).
    - ``answer_with_branch``: offer ANSWER with a branch's answer, so that any program can be played (``atomic`` only).
    - ``aggregation``: what ANSWER answers. ``majority``: the leader. ``finished``: the same among finished branches,
      the leader if none of them votes. Or a callable that is given a ``Snapshot``, on which the looks of
      ``tts_gym.programs`` work, and returns an answer number or -1.
    - ``patience``: readings against the leader before PRUNE_DISSENTERS prunes; 3.
    - ``strict``: raise ``IllegalMove`` on illegal actions.
    - ``render_mode``: ``rgb_array`` (uint8[height, width, 3]), ``human`` (a window) or ``ansi`` (str) of the branch ×
      depth grid; None for nothing.

    All can be given to ``gym.make``, and those that are plain values survive ``spec.to_json()``. Bad ones raise
    ``UsageError``; so does an action that is not in the action space.

    ## References
    AutoTTS, arXiv 2605.08083, section 2.

    ## Version History
    - v0: first version.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 (as Gymnasium declares it)
        "render_modes": ["human", "rgb_array", "ansi"],
        "render_fps": 8,
    }

    def __init__(
        self,
        pool: PoolSpec | Sequence[PoolSpec] | None = None,
        *,
        max_branches: int = 64,
        budget: float | None = None,
        probe_cost: float = 0.0,
        cost_weight: float = 2.0**-20,
        actions: str = "atomic",
        observation: str = "features",
        grading: str = "exact",
        questions: Sequence[int] | Sequence[Sequence[int]] | None = None,
        orders: int | Sequence[int] = 1024,
        pool_weights: Sequence[float] | None = None,
        auto_probe: bool = False,
        answer_with_branch: bool = False,
        aggregation: Aggregation = "majority",
        patience: int = 3,
        strict: bool = False,
        render_mode: str | None = None,
    ) -> None:
        check_render_mode(render_mode, self.metadata["render_modes"])
        self.replay = Replay(
            1,
            pool,
            max_branches=max_branches,
            budget=budget,
            probe_cost=probe_cost,
            cost_weight=cost_weight,
            actions=actions,
            observation=observation,
            grading=grading,
            questions=questions,
            orders=orders,
            pool_weights=pool_weights,
            auto_probe=auto_probe,
            answer_with_branch=answer_with_branch,
            aggregation=aggregation,
            patience=patience,
            strict=strict,
            logged=render_mode is not None,
        )
        self.action_space = self.replay.action_space
        self.observation_space = self.replay.observation_space
        self.render_mode = render_mode
        self._running = False
        self._window: rendering.Window | None = None

    @property
    def cost_weight(self) -> float:
        """γ, reward lost per token. May be set between episodes."""
        return float(self.replay.cost_weights[0])

    @cost_weight.setter
    def cost_weight(self, weight: float) -> None:
        self.replay.cost_weights[0] = checked_weight(weight)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """Begin an episode; see the class for ``options``."""
        options = {} if options is None else options
        before = (self._np_random, self._np_random_seed, self.np_random.bit_generator.state) if options else None
        super().reset(seed=seed)
        try:
            drawn = self.replay.draw(self.np_random.random, options)
        except UsageError:
            if before is not None:
                self._np_random, self._np_random_seed, self.np_random.bit_generator.state = before
            raise
        self.replay.begin(0, *drawn)
        self._running = True
        if self.render_mode == "human":
            self.render()
        return self.replay.observations[0].copy(), self._info()

    def step(self, action: Any) -> tuple[NDArray[Any], float, bool, bool, dict[str, Any]]:
        """Take one action; see the class."""
        replay = self.replay
        if not self._running:
            raise gym.error.ResetNeeded("call reset() before step(): no episode has begun, or it has ended")
        action = check_action(action, replay.actions)
        if replay.strict and not replay.masks[0, action]:
            raise IllegalMove(replay.refusal(0, action))
        replay.taken[0] = action
        replay.choose()
        kernel.step(replay.address, 0, 1)
        terminated = bool(replay.terminated[0])
        info = self._info()
        if terminated:
            self._running = False
            info.update(replay.last(0))
        if self.render_mode == "human":
            self.render()
        return replay.observations[0].copy(), float(replay.rewards[0]), terminated, False, info

    def action_masks(self) -> NDArray[np.bool_]:
        """bool[A]: which actions are legal now; from the first reset on at least one always is."""
        return self.replay.masks[0].astype(np.bool_)

    def render(self) -> Any:
        """The branches opened so far; see the class for what each mode returns."""
        if self.render_mode is None:
            gym.logger.warn("render() was called without a render_mode; give one to gym.make, e.g. 'rgb_array'")
            return None
        scene = self.replay.scene(0)
        if self.render_mode == "ansi":
            return text(scene)
        shown = rendering.picture(scene)
        if self.render_mode == "rgb_array":
            return shown
        if self._window is None:
            self._window = rendering.Window(fps=self.metadata["render_fps"])
        self._window.show(shown)
        return None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_window": None}  # a copy opens its own

    def close(self) -> None:
        """Close the window, if there is one."""
        if self._window is not None:
            self._window.close()
            self._window = None

    def _info(self) -> dict[str, Any]:
        replay = self.replay
        return {
            "action_mask": replay.masks[0].copy(),
            "cost": float(replay.cost[0]),
            "tokens": int(replay.tokens[0]),
            "probes": int(replay.probes[0]),
            "illegal": bool(replay.illegal[0]),
        }


def check_render_mode(mode: str | None, modes: Sequence[str]) -> None:
    """Raise UsageError for a render mode that is not offered."""
    if mode is not None and mode not in modes:
        raise UsageError(f"render_mode should be None or one of {', '.join(modes)}, found {mode!r}")


def check_action(action: Any, count: int) -> int:
    """``action`` as an int in the action space."""
    if isinstance(action, np.ndarray) and action.shape == ():
        action = action[()]
    if isinstance(action, int | np.integer) and 0 <= action < count:
        return int(action)
    raise UsageError(unknown_action(action, count))


def unknown_action(action: Any, count: int) -> str:
    """What to say of an action that is not in the action space."""
    found = repr(action) if type(action) is str else action
    return f"an action should be a whole number from 0 to {count - 1}, found {found}"
