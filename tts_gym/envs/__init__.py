"""Gymnasium faces of the engine."""

from tts_gym import registration as registration
from tts_gym.envs.tts_replay import TTSReplayEnv
from tts_gym.envs.vector import TTSReplayVectorEnv

__all__ = ["TTSReplayEnv", "TTSReplayVectorEnv"]
