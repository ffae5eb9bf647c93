"""Programs as policies: the actions by which a program plays an episode of the environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym

from tts_gym.engine.moves import Move
from tts_gym.envs import layout as at
from tts_gym.envs.tts_replay import TTSReplayEnv
from tts_gym.errors import UsageError
from tts_gym.evaluation.contestants import Contestant, contestant
from tts_gym.programs.primitives import active_votes, majority
from tts_gym.programs.program import Program, as_attributes
from tts_gym.programs.runner import reference_episode

_KINDS = (Move.CONTINUE, Move.PROBE, Move.PRUNE)


def program_actions(env: gym.Env[Any, Any], played: str | Path | Program | Contestant, beta: float) -> list[int]:
    """The actions by which a program plays the episode that ``env`` has just begun.

    The program runs on the reference engine under the environment's limits; its action log, move by move, is the
    policy. Taking these actions earns what ``evaluate`` computes: correctness minus ``cost_weight`` times cost.
    Marks between rounds (sequential tokens) have no action and are left out.

    Args:
        env: ``TTSReplay-v0`` with atomic actions, perhaps in wrappers. With ``answer_with_branch=True`` every answer
            that some branch still holds can be given; without it only the majority's.
        played: a controller's name, a program's file, either with ``:knob=value,...``, or a loaded one.

    Raises:
        UsageError: the environment has no episode or other actions, or the answer cannot be given in it.
        ProgramError, IllegalMove: the program fails, or does what the limits forbid.
    """
    unwrapped = env.unwrapped
    if not isinstance(unwrapped, TTSReplayEnv):
        raise UsageError(f"program_actions needs TTSReplay-v0, found {unwrapped}")
    replay = unwrapped.replay
    if replay.rounds or replay.table[at.AUTO_PROBE]:
        raise UsageError("program_actions needs actions='atomic' and auto_probe=False: a program probes by itself")
    if not replay.started[0] or replay.steps(0):
        raise UsageError("program_actions needs an episode that has just begun: call reset() first")
    played = contestant(played)
    pool, question, order = replay.replayed[:, 0].tolist()
    episode = reference_episode(replay.pools[pool].recording, question, order, replay.limits)
    number = played.program.solve(episode, as_attributes(played.knobs(beta)))
    width = replay.width

    actions = []
    for move, i in episode.log:
        if move == Move.BRANCH:
            actions.append(at.BRANCH)
        elif move != Move.END_ROUND:
            actions.append(at.FIRST + width * _KINDS.index(Move(move)) + i)
    if replay.aggregation == "majority" and number == majority(active_votes(episode)):
        return [*actions, at.ANSWER]
    if not replay.table[at.ANSWER_WITH]:
        raise UsageError(f"{played.name} does not answer with the majority here; make it answer_with_branch=True")
    if number not in episode.latest:
        raise UsageError(f"{played.name} answers number {number}, which no branch holds any more: there is no action")
    return [*actions, at.FIRST + 3 * width + episode.latest.index(number)]
