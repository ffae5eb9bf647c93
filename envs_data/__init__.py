"""Pools small enough to ship, each described in README.md."""
