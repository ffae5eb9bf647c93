"""What is needed to hold a vector environment equal, step for step, to Gymnasium's own over scalar environments."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from numpy.typing import NDArray


def assert_same(ours: Any, theirs: Any, where: str = "") -> None:
    """Equal to the bit, through dicts and object arrays."""
    assert type(ours) is type(theirs), (where, ours, theirs)
    if isinstance(ours, dict):
        assert set(ours) == set(theirs), where
        for key in ours:
            assert_same(ours[key], theirs[key], f"{where}.{key}")
    elif isinstance(ours, tuple | list) or (isinstance(ours, np.ndarray) and ours.dtype == object):
        for one, other in zip(ours, theirs, strict=True):
            assert_same(one, other, where)
    elif isinstance(ours, np.ndarray):
        assert ours.dtype == theirs.dtype, (where, ours.dtype, theirs.dtype)
        np.testing.assert_array_equal(ours, theirs, err_msg=where)
    else:
        assert ours == theirs, where


def choose(masks: NDArray[Any], rng: np.random.Generator, legal: float = 0.95) -> NDArray[np.int64]:
    """Mostly legal actions, ANSWER now and then."""
    actions = []
    for mask in masks:
        some = np.flatnonzero(mask)
        if len(some) > 1 and rng.random() < 0.93:
            some = some[some != 1]
        actions.append(rng.choice(some) if rng.random() < legal else rng.integers(len(mask)))
    return np.array(actions)


def assert_equal_steps(
    ours: VectorEnv[Any, Any, Any], theirs: SyncVectorEnv[Any, Any], steps: int, seed: int = 7
) -> NDArray[np.int64]:
    """Play both with the same actions and compare all that they return. Counts of terminations and truncations."""
    assert ours.single_observation_space == theirs.single_observation_space
    assert ours.observation_space == theirs.observation_space
    rng = np.random.default_rng(seed)
    assert_same(ours.reset(seed=seed), theirs.reset(seed=seed), "reset")
    ends = np.zeros(2, dtype=np.int64)
    for number in range(steps):
        masks = np.stack(theirs.call("action_masks"))
        np.testing.assert_array_equal(ours.action_masks(), masks)  # type: ignore[attr-defined]
        assert masks.any(axis=1).all()
        actions = choose(masks, rng)
        got, want = ours.step(actions), theirs.step(actions)
        assert_same(list(got), list(want), f"step {number}")
        assert ours.observation_space.contains(got[0])
        ends += got[2].sum(), got[3].sum()
        over = got[2] | got[3]
        if theirs.metadata["autoreset_mode"] is AutoresetMode.DISABLED and over.any():
            again = (each.reset(options={"reset_mask": over.copy()}) for each in (ours, theirs))
            assert_same(*again, "partial reset")
    return ends
