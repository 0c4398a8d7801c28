"""Micro-benchmarks of the engine's parts: index, log codec, replay, calls from Python.

Unlike the other benchmarks it looks behind the public face, for what it measures lies there.
"""
