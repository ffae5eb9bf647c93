"""Registers the environments with Gymnasium, when first imported."""

from gymnasium.envs.registration import register

register(
    id="TTSReplay-v0",
    entry_point="tts_gym.envs.tts_replay:TTSReplayEnv",
    vector_entry_point="tts_gym.envs.vector:TTSReplayVectorEnv",
)
