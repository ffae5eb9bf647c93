"""What an evaluation found: one row per operating point, and one per episode."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tts_gym.files import written_whole
from tts_gym.programs.program import Number


@dataclass(frozen=True)
class Row:
    """One operating point: a contestant at a beta on a pool, over all questions and orders.

    Attributes:
        accuracy: percent of episodes answered correctly.
        tokens: mean tokens per episode.
        sequential_tokens: mean over episodes of the tokens that had to come one after another.
        peak_width: mean over episodes of the most branches live at once.
        probes: mean probes per episode.
        orders, questions: how many of each.
        seconds: time the episodes took, compilation not counted.
    """

    pool: str
    contestant: str
    beta: float
    knobs: dict[str, Number]
    accuracy: float
    tokens: float
    sequential_tokens: float
    peak_width: float
    probes: float
    orders: int
    questions: int
    seconds: float


@dataclass(frozen=True, eq=False)
class Results:
    """What an evaluation found.

    Attributes:
        rows: one per pool, contestant and beta, in the order asked for.
        episodes: the long table, one row per episode: pool, contestant, beta, question, order, correct,
            tokens, sequential_tokens, peak_width, probes, branches.
        provenance: versions, grading and the pools' content hashes.
    """

    rows: list[Row]
    episodes: pa.Table
    provenance: dict[str, Any] = field(default_factory=dict)

    def save_json(self, path: str | Path) -> None:
        """Write ``{"rows": [...], "provenance": {...}}``."""
        text = json.dumps({"rows": [asdict(row) for row in self.rows], "provenance": self.provenance}, indent=1)
        with written_whole(path) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")

    def save_parquet(self, path: str | Path) -> None:
        """Write the long table, the provenance in its metadata key ``tts_gym``."""
        table = self.episodes.replace_schema_metadata({"tts_gym": json.dumps(self.provenance)})
        with written_whole(path) as temporary:
            pq.write_table(table, temporary, compression="zstd")
