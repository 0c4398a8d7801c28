"""Bounds the rate of something: tokens come at a rate, and are saved up to a burst."""


class TokenBucket:
    """`rate_per_s` tokens per second, at most `burst` at once; full at the beginning.

    Whoever takes more than there is goes into debt and waits until it is paid, so that a piece
    larger than the burst is possible. Time is an argument, in ms, and never goes back.
    """

    __slots__ = ("_at_ms", "_tokens", "burst", "rate_per_s")

    def __init__(self, rate_per_s: int, burst: int, now_ms: int) -> None:
        assert rate_per_s > 0, "without a rate nothing would ever pass"
        self.rate_per_s = rate_per_s
        self.burst = burst
        self._tokens = float(burst)
        self._at_ms = now_ms

    def try_take(self, count: int, now_ms: int) -> bool:
        """Take `count` tokens unless there is a debt."""
        self._fill(now_ms)
        if self._tokens <= 0:
            return False
        self._tokens -= count
        return True

    def wait_ms(self, now_ms: int) -> int:
        """When it makes sense to try again, from now."""
        self._fill(now_ms)
        if self._tokens > 0:
            return 0
        return int(-self._tokens * 1000 / self.rate_per_s) + 1

    def _fill(self, now_ms: int) -> None:
        passed_ms = max(0, now_ms - self._at_ms)
        self._at_ms = max(now_ms, self._at_ms)
        self._tokens = min(self.burst, self._tokens + passed_ms * self.rate_per_s / 1000)
