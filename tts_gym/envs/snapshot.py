"""What an agent may know of a running episode, read from its memory; the looks of ``tts_gym.programs`` work on it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tts_gym.engine import compiled as engine
from tts_gym.engine.moves import Refusal


@dataclass(frozen=True)
class Snapshot:
    """An episode as it is now. Lists have one entry per opened branch, in opening order.

    Attributes:
        opened, live: how many branches were opened, and how many of them can still be extended.
        depth: intervals generated.
        finished, pruned: whether the branch ended, and whether it was given up.
        latest: the answer number that was read last, -1 for none.
        probed: depth of the last probe, 0 for none.
        spent: tokens billed for the branch.
        tokens, probes: of the whole episode.
        cost: tokens plus probe_cost per probe.
        revealed: how many distinct answers were seen; their numbers are 0 to revealed - 1.

    What may be done (``why_not_branch`` and its kin) is asked of the episode itself: only while it is as it was.
    """

    opened: int
    live: int
    depth: list[int]
    finished: list[bool]
    pruned: list[bool]
    latest: list[int]
    probed: list[int]
    spent: list[int]
    tokens: int
    probes: int
    cost: float
    revealed: int
    _slots: NDArray[np.int64] = field(repr=False, compare=False)

    @classmethod
    def of(cls, slots: NDArray[np.int64]) -> Snapshot:
        """Read an engine block."""
        opened = int(slots[engine.OPENED])
        size = engine.BRANCH_SLOTS
        branches = slots[engine.HEADER : engine.HEADER + size * opened].reshape(opened, size)
        status = branches[:, engine.STATUS]
        probes, tokens = int(slots[engine.PROBES]), int(slots[engine.SPENT_TOKENS])
        return cls(
            opened=opened,
            live=int(slots[engine.LIVE]),
            depth=branches[:, engine.DEPTH].tolist(),
            finished=(status == engine.FINISHED_BRANCH).tolist(),
            pruned=(status == engine.PRUNED_BRANCH).tolist(),
            latest=branches[:, engine.LATEST].tolist(),
            probed=branches[:, engine.PROBED].tolist(),
            spent=branches[:, engine.SPENT].tolist(),
            tokens=tokens,
            probes=probes,
            cost=tokens + float(slots.view(np.float64)[engine.PROBE_COST]) * probes,
            revealed=int(slots[engine.REVEALED]),
            _slots=slots,
        )

    def live_branches(self) -> list[int]:
        """Opened branches that are neither finished nor pruned."""
        return [i for i, (finished, pruned) in enumerate(zip(self.finished, self.pruned)) if not (finished or pruned)]

    def why_not_branch(self) -> Refusal:
        """Why BRANCH is illegal now; ``Refusal.NONE`` if it is legal."""
        return Refusal(engine.why_not_branch(self._slots.ctypes.data))

    def why_not_advance(self, i: int) -> Refusal:
        """Why CONTINUE(i) is illegal now; ``Refusal.NONE`` if it is legal."""
        return Refusal(engine.why_not_advance(self._slots.ctypes.data, i))

    def why_not_probe(self, i: int) -> Refusal:
        """Why PROBE(i) is illegal now; ``Refusal.NONE`` if it is legal."""
        return Refusal(engine.why_not_probe(self._slots.ctypes.data, i))
