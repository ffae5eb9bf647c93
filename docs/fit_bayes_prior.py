"""Fit the prior of ``tts_gym/controllers/bayes_l3.py``: how answers were spread over branches, question by question.

    TTS_GYM_AUTOTTS=DIR python docs/fit_bayes_prior.py

prints the rows to put into that file. Only search pools are read (the four AIME24 ones), and of each the same 21 of 30
questions: the published 70/30 split, drawn with seed 0. The other nine questions and AIME25 stay unseen.
"""

from __future__ import annotations

import random
from collections import Counter

import numpy as np

from tts_gym.pools import open_pool

POOLS = tuple(f"autotts/Qwen3-{size}/aime24" for size in ("0.6B", "1.7B", "4B", "8B"))
QUESTIONS = tuple(sorted(random.Random(0).sample(range(30), 21)))
ANSWERS = 4
"""Answers kept per question; the votes of all others count as answers that no two branches share."""


def rows() -> list[list[int]]:
    """One row per shape: on how many questions, then the votes of the leading answers out of all 128, falling."""
    shapes: Counter[tuple[int, ...]] = Counter()
    for name in POOLS:
        recording = open_pool(name).recording
        for q in QUESTIONS:
            finals = recording.answers[q, np.arange(recording.branches), recording.intervals[q]]
            votes = sorted(Counter(finals.tolist()).values(), reverse=True)
            shapes[tuple((votes + [0] * ANSWERS)[:ANSWERS])] += 1
    return [[count, *shape] for shape, count in sorted(shapes.items(), reverse=True)]


if __name__ == "__main__":
    print(f"# questions {', '.join(map(str, QUESTIONS))}")
    line = "   "
    for row in rows():
        text = f" [{', '.join(map(str, row))}],"
        if len(line + text) > 116:
            print(line)
            line = "   "
        line += text
    print(line)
