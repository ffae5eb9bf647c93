"""Table 1 of the AutoTTS paper (arXiv 2605.08083), cell by cell, from the recorded data at hand."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path

from tabulate import tabulate

from tts_gym.errors import PoolError
from tts_gym.evaluation.results import Row
from tts_gym.evaluation.running import evaluate
from tts_gym.files import written_whole
from tts_gym.pools.pool import Pool
from tts_gym.pools.registry import LOCAL_COPY, at_hand, open_pool

# What each row of the table says it is: a contestant and its beta.
METHODS = {
    "sc": ("sc:n=64", 1.0),
    "asc": ("asc:max_samples=64", 1.0),
    "esc": ("esc:max_samples=64,window=8", 1.0),
    "parallel_probe": ("parallel_probe:n=64", 1.0),
    "cmc beta=0.5": ("cmc", 0.5),
    "cmc beta=1.0": ("cmc", 1.0),
}
# Six cells were produced by something else (spec, section 7).
MISPRINTS = {
    ("Qwen3-4B", "asc"): ("asc:max_samples=40", 1.0),
    ("Qwen3-1.7B", "parallel_probe"): ("parallel_probe_all:n=64", 1.0),
}
# The paper prints one decimal of percent and of thousands of tokens, the tokens cut to whole ones first.
_HALF_A_DIGIT = 0.05 + 1e-9


@dataclass(frozen=True)
class Cell:
    """One published number pair and ours; accuracy in percent, tokens in thousands.

    ``explained_by`` names what the paper ran for a cell that is a known misprint, with its numbers.
    """

    model: str
    benchmark: str
    method: str
    contestant: str
    beta: float
    accuracy: float
    published_accuracy: float
    tokens: float
    published_tokens: float
    explained_by: str | None = None
    explained_accuracy: float | None = None
    explained_tokens: float | None = None

    @property
    def verdict(self) -> str:
        """``equal``, ``misprint`` (equal to what the paper ran instead) or ``DIFFERS``."""
        if self._is_published(self.accuracy, self.tokens):
            return "equal"
        if self.explained_by and self._is_published(self.explained_accuracy or 0.0, self.explained_tokens or 0.0):
            return "misprint"
        return "DIFFERS"

    def _is_published(self, accuracy: float, tokens: float) -> bool:
        whole = int(tokens * 1000 + 1e-6) / 1000
        return (
            abs(accuracy - self.published_accuracy) <= _HALF_A_DIGIT
            and abs(whole - self.published_tokens) <= _HALF_A_DIGIT
        )


@dataclass(frozen=True)
class Comparison:
    """All cells whose pool is at hand, and the names of the pools that are not."""

    cells: list[Cell]
    absent: list[str]

    @property
    def unexplained(self) -> list[Cell]:
        """Cells that differ from the published number for no known reason."""
        return [cell for cell in self.cells if cell.verdict == "DIFFERS"]

    def table(self) -> str:
        """Ours, the published number and the difference for every cell."""
        lines: list[tuple[object, ...]] = []
        for cell in self.cells:
            lines.append(
                (
                    f"{cell.model} {cell.benchmark}",
                    cell.contestant if cell.contestant != "cmc" else f"cmc, beta {cell.beta:g}",
                    f"{cell.accuracy:.2f}",
                    f"{cell.published_accuracy:.1f}",
                    f"{cell.accuracy - cell.published_accuracy:+.2f}",
                    f"{cell.tokens:,.3f}",
                    f"{cell.published_tokens:,.1f}",
                    f"{cell.tokens - cell.published_tokens:+,.3f}",
                    cell.verdict,
                )
            )
            if cell.verdict == "misprint":
                lines.append(
                    (
                        "",
                        f"  run as {cell.explained_by}",
                        f"{cell.explained_accuracy:.2f}",
                        f"{cell.published_accuracy:.1f}",
                        f"{(cell.explained_accuracy or 0) - cell.published_accuracy:+.2f}",
                        f"{cell.explained_tokens:,.3f}",
                        f"{cell.published_tokens:,.1f}",
                        f"{(cell.explained_tokens or 0) - cell.published_tokens:+,.3f}",
                        "equal",
                    )
                )
        columns = ("pool", "method", "acc. %", "paper", "diff.", "tokens (k)", "paper", "diff.", "")
        return tabulate(
            lines, headers=columns, disable_numparse=True, colalign=("left", "left", *["right"] * 6, "left")
        )

    def summary(self) -> str:
        """One paragraph: how many cells agree, and what the misprints are."""
        verdicts = [cell.verdict for cell in self.cells]
        misprints = [cell for cell in self.cells if cell.verdict == "misprint"]
        parts = [
            f"\n{len(self.cells)} cells: {verdicts.count('equal')} equal to the printed precision, "
            f"{len(misprints)} known misprints, {len(self.unexplained)} unexplained."
        ]
        parts += [
            f"Misprint: {cell.model} {cell.benchmark} {cell.method} was run as {cell.explained_by}."
            for cell in misprints
        ]
        if self.absent:
            parts.append(f"Not at hand: {', '.join(self.absent)} (tts-gym pools pull NAME).")
        return "\n".join(parts)

    def save_json(self, path: str | Path) -> None:
        """Write ``{"cells": [...], "absent": [...]}``."""
        cells = [{**asdict(cell), "verdict": cell.verdict} for cell in self.cells]
        with written_whole(path) as temporary:
            temporary.write_text(json.dumps({"cells": cells, "absent": self.absent}, indent=1) + "\n")


def reproduce_paper_table1(
    pools: Sequence[str] | None = None, *, orders: int = 100, progress: bool = False
) -> Comparison:
    """Recompute every cell of Table 1 whose pool is at hand (nothing is downloaded).

    Args:
        pools: published pool names; all by default.

    Raises:
        PoolError: no pool of the table is at hand.
    """
    published = _published()
    names = list(dict.fromkeys(f"autotts/{row['model']}/{row['benchmark']}" for row in published))
    names = [name for name in names if pools is None or name in pools]
    present = [name for name in names if at_hand(name)]
    if not present:
        raise PoolError(
            f"no pool of Table 1 is at hand: set {LOCAL_COPY} to a copy of the data, or run: tts-gym pools pull autotts"
        )
    opened = [open_pool(name) for name in present]
    rows = _rows(opened, orders, progress)
    cells = []
    for row in published:
        name = f"autotts/{row['model']}/{row['benchmark']}"
        if name not in present:
            continue
        spec, beta = METHODS[row["method"]]
        ours = rows[name, spec, beta]
        misprint = MISPRINTS.get((row["model"], row["method"]))
        actual = rows[name, *misprint] if misprint else None
        cells.append(
            Cell(
                model=row["model"],
                benchmark=row["benchmark"],
                method=row["method"],
                contestant=spec,
                beta=beta,
                accuracy=ours.accuracy,
                published_accuracy=float(row["accuracy_percent"]),
                tokens=ours.tokens / 1000,
                published_tokens=float(row["tokens_thousands"]),
                explained_by=misprint[0] if misprint else None,
                explained_accuracy=actual.accuracy if actual else None,
                explained_tokens=actual.tokens / 1000 if actual else None,
            )
        )
    return Comparison(cells, [name for name in names if name not in present])


def _rows(pools: Sequence[Pool], orders: int, progress: bool) -> dict[tuple[str, str, float], Row]:
    wanted = dict.fromkeys([*METHODS.values(), *MISPRINTS.values()])
    specs = list(dict.fromkeys(spec for spec, _ in wanted))
    betas = sorted({beta for _, beta in wanted})
    results = evaluate(specs, pools, betas, orders, progress=progress)
    return {(row.pool, row.contestant, row.beta): row for row in results.rows}


def _published() -> list[dict[str, str]]:
    text = (resources.files("tts_gym.evaluation") / "paper_table1.csv").read_text()
    return list(csv.DictReader(text.splitlines()))
