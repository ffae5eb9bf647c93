"""Gymnasium faces of the engine."""

from tts_gym import registration as registration
from tts_gym.envs.tts_replay import TTSReplayEnv

__all__ = ["TTSReplayEnv"]
