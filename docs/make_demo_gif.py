"""Draws docs/demo.gif: one episode of a published controller on the shipped pool, the same at every run.

    pip install --editable '.[render]'
    python docs/make_demo_gif.py [FILE]

The question is one that most branches get wrong: the early favourite loses once CMC has pruned those who dissent
from the answers that finished.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from tts_gym.envs.layout import NOTHING
from tts_gym.envs.rendering import picture
from tts_gym.envs.scene import Scene, replayed
from tts_gym.evaluation import find_program
from tts_gym.pools import DEFAULT_POOL, open_pool
from tts_gym.programs.runner import Limits, trace_program

CONTROLLER, BETA, QUESTION, ORDER, BRANCHES = "cmc", 0.5, 15, 3, 34
FRAMES, FRAME_MS, VERDICT_MS = 150, 60, 2500


def scenes() -> list[Scene]:
    """The episode at FRAMES moments, evenly spaced in moves; the last one is its end."""
    pool, limits, program = open_pool(DEFAULT_POOL), Limits(max_branches=BRANCHES), find_program(CONTROLLER)
    knobs = program.knobs(BETA)
    log = trace_program(program, pool.recording, knobs, question=QUESTION, order=ORDER, limits=limits)
    correct = pool.correct()[QUESTION]
    title = f"{pool.name}, {CONTROLLER} at beta {BETA}"
    end = replayed(pool.recording, QUESTION, ORDER, limits, log)
    columns = int((end.cells > NOTHING).sum(axis=1).max())
    moments = np.linspace(0, len(log), FRAMES).round().astype(int)
    shown = [
        replayed(pool.recording, QUESTION, ORDER, limits, log[:n], pool=title, columns=columns, correct=correct)
        for n in moments
    ]
    return [replace(scene, last_move="", touched=-1) for scene in shown]  # seven moves a frame: too fast to read


def main(path: Path) -> None:
    """Write the animation to ``path``."""
    pictures = [Image.fromarray(picture(scene)) for scene in scenes()]
    colours = pictures[-1].quantize(128, dither=Image.Dither.NONE)
    frames = [image.quantize(palette=colours, dither=Image.Dither.NONE) for image in pictures]
    durations = [FRAME_MS] * (FRAMES - 1) + [VERDICT_MS]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=durations, loop=0)
    print(f"{path}: {len(frames)} frames, {sum(durations) / 1000:.1f} s, {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "demo.gif")
