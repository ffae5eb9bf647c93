"""Things that produce contestants: learned policies and programs written by a language model.

Installed as ``tts_gym.agents``. Empty until the first agent lands; see the CHANGELOG.
"""
