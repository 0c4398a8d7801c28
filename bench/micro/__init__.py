"""Mako's micro-benchmark: transactions that read a few keys, or read, modify and write them."""
