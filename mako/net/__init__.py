"""Connections between the processes of a cluster, on trio (docs/wire.md)."""
