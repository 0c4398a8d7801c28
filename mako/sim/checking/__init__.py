"""Checkers of what clients saw and of what partitions did, wherever that was recorded."""
