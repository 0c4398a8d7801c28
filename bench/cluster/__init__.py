"""What the processes of a cluster do while a benchmark runs on it.

model     who led from when, lag, processor time and bytes of a stretch of time; plain values
scrape    the numbers that are wanted out of /metrics
record    all that was seen so far, and any stretch of it. Pure
watch     asks the processes, a thread for each
"""
