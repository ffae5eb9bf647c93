"""Results as text."""

from __future__ import annotations

from collections.abc import Sequence

from tabulate import tabulate

from tts_gym.evaluation.results import Row


def frontier_table(rows: Sequence[Row]) -> str:
    """A table per pool: every operating point, from few tokens to many; ``*`` marks the frontier.

    A point is on the frontier when none of the others is at least as accurate with fewer tokens.
    """
    parts = []
    for pool in dict.fromkeys(row.pool for row in rows):
        lines = []
        best = -1.0
        for same in _points([row for row in rows if row.pool == pool]):
            row = same[0]
            mark = "*" if row.accuracy > best else ""
            best = max(best, row.accuracy)
            betas = ", ".join(f"{point.beta:g}" for point in same)
            lines.append(
                (
                    mark,
                    row.contestant,
                    betas,
                    row.accuracy,
                    row.tokens,
                    row.sequential_tokens,
                    row.peak_width,
                    row.probes,
                )
            )
        first = next(row for row in rows if row.pool == pool)
        head = f"{pool}: {first.questions} questions x {first.orders} orders, means per question"
        columns = ("", "controller", "beta", "accuracy %", "tokens", "sequential", "peak width", "probes")
        formats = ("", "", "", ".2f", ",.0f", ",.0f", ".1f", ",.0f")
        parts.append(f"{head}\n{tabulate(lines, headers=columns, floatfmt=formats, disable_numparse=[2])}")
    return "\n\n".join(parts) + "\n\n* on the frontier: nothing here is at least as accurate for fewer tokens"


def _points(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows by rising tokens; a contestant's betas that set the same knobs are one point."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.contestant, repr(row.knobs)), []).append(row)
    return sorted(groups.values(), key=lambda group: (group[0].tokens, -group[0].accuracy))
