"""What was done in each episode and what came of it, kept or written as JSON lines."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from tts_gym.envs.replay import Replay
from tts_gym.errors import UsageError
from tts_gym.wrappers.base import replay_env


class RecordTraces(gym.Wrapper[Any, Any, Any, Any], gym.utils.RecordConstructorArgs):
    """Records every finished episode, terminated or truncated, as one *trace*: a dict, or a line of JSON.

    | key | value |
    |---|---|
    | ``pool``, ``question``, ``order`` | int, what was replayed: the options that ``reset`` takes |
    | ``pool_name`` | str, which pool that index meant |
    | ``beta`` | float; only over :class:`BetaConditioning`, and an option of its reset |
    | ``actions`` | list of int, illegal ones included |
    | ``rewards`` | list of float, one per action, as they reach this wrapper |
    | ``cost``, ``tokens``, ``probes`` | float, int, int: what the episode cost |
    | ``correct`` | bool, None without an answer |
    | ``terminated``, ``truncated`` | bool |

    The same actions after a reset to the same question give the same rewards. Episodes that are reset before they
    end leave no trace.

    It belongs outside :class:`BetaConditioning` and ``TimeLimit``, which it should see, and inside
    ``gymnasium.wrappers.Autoreset``, whose resets it would not. The twin for the vector environment is
    ``tts_gym.wrappers.vector.RecordTraces``.

    Args:
        env: ``TTSReplay-v0``, perhaps wrapped.
        path: a file to append traces to, as they end; each step writes its whole lines at once, so that several
            environments and processes may share a file. None for no file.
        keep: how many of the latest traces to keep in ``traces``; None for all.

    Attributes:
        traces: the kept traces, oldest first.

    Raises:
        UsageError: another environment, a bad ``keep``, or a ``path`` that cannot be written or whose last line is
            not whole.
    """

    def __init__(
        self, env: gym.Env[Any, Any], path: str | os.PathLike[str] | None = None, *, keep: int | None = None
    ) -> None:
        self._base = replay_env(env, "RecordTraces")
        gym.utils.RecordConstructorArgs.__init__(self, path=None if path is None else os.fspath(path), keep=keep)
        gym.Wrapper.__init__(self, env)
        self._log = TraceLog(path, keep)
        self.traces = self._log.traces
        self._actions: list[int] = []
        self._rewards: list[float] = []
        self._recording = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode, and its trace."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._actions, self._rewards, self._recording = [], [], True
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Take one action, and note it."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        if self._recording:
            self._actions.append(int(action))
            self._rewards.append(float(reward))
            if terminated or truncated:
                self._recording = False
                replay = self._base.replay
                begun = replay.replayed[:, 0]
                trace = make_trace(replay, begun, self._actions, self._rewards, terminated, truncated, info)
                self._log.add([trace])
        return observation, reward, terminated, truncated, info


class TraceLog:
    """Where traces go: the latest into ``traces``, all of them into a file, where there is one."""

    def __init__(self, path: str | os.PathLike[str] | None, keep: int | None) -> None:
        if keep is not None and (not isinstance(keep, int | np.integer) or keep < 0):
            raise UsageError(f"keep should be a whole number from 0 on, or None for all, found {keep!r}")
        self.traces: deque[dict[str, Any]] = deque(maxlen=keep)
        self.path = None if path is None else Path(path).absolute()
        if self.path is not None:
            self._append(b"", self.path)

    def add(self, traces: Sequence[dict[str, Any]]) -> None:
        """Keep and write the traces that a step ended."""
        self.traces.extend(traces)
        if self.path is not None and traces:
            self._append("".join(json.dumps(trace) + "\n" for trace in traces).encode(), self.path)

    @staticmethod
    def _append(lines: bytes, path: Path) -> None:
        """Append at once: opened anew each time, so that there is nothing to flush, to close or to leave behind."""
        try:
            with path.open("a+b", buffering=0) as file:
                if not lines and file.seek(0, os.SEEK_END):
                    file.seek(-1, os.SEEK_END)
                    if file.read(1) != b"\n":
                        raise UsageError(f"traces cannot be appended to {path}: its last line is not whole")
                while lines:
                    lines = lines[file.write(lines) :]
        except OSError as error:
            raise UsageError(f"traces cannot be written to {path}: {error.strerror or error}") from error


def make_trace(
    replay: Replay,
    episode: NDArray[np.int64],
    actions: list[int],
    rewards: list[float],
    terminated: bool,
    truncated: bool,
    info: dict[str, Any],
) -> dict[str, Any]:
    """The trace of an episode; ``episode`` is its pool, question and order, ``info`` what its last step returned."""
    pool, question, order = episode.tolist()
    return {
        "pool": pool,
        "question": question,
        "order": order,
        "pool_name": replay.pools[pool].name,
        **({"beta": info["beta"]} if "beta" in info else {}),
        "actions": actions,
        "rewards": rewards,
        "cost": info["cost"],
        "tokens": info["tokens"],
        "probes": info["probes"],
        "correct": info.get("correct"),
        "terminated": bool(terminated),
        "truncated": bool(truncated),
    }
