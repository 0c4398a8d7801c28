"""Histograms of all workers together, as numpy adds them up."""

from mako.engine.engine import Engine
from mako.engine.latencies import Latencies
from mako.engine.layout import C_HISTOGRAMS, HISTOGRAM_BYTES
from mako.histogram import BUCKETS


def test_the_counts_of_workers_are_added_by_kind() -> None:
    engine = Engine(32 << 20, contexts=4)
    try:
        places = [engine.take_context() + C_HISTOGRAMS for _ in range(2)]
        for place in places:
            for kind in range(2):
                engine.write(place + kind * HISTOGRAM_BYTES, bytes(HISTOGRAM_BYTES))
        counted = {(0, 0, 5): 1, (0, 1, 7): 2, (1, 1, 7): 30, (1, 1, BUCKETS - 1): 400}
        for (worker, kind, bucket), count in counted.items():
            engine.set_word(places[worker] + kind * HISTOGRAM_BYTES + 8 * bucket, count)
        # Behind the last bucket, where nothing is counted.
        engine.set_word(places[0] + 8 * BUCKETS, 9999)
        found = Latencies.of(engine, places, 2)
        assert found.pairs(0) == [[5, 1]]
        assert found.pairs(1) == [[7, 32], [BUCKETS - 1, 400]]
        assert found.counts(1)[7] == 32
        assert len(found.counts(1)) == BUCKETS
        assert [found.total(0), found.total(1)] == [1, 432]
        engine.set_word(places[0] + 8 * 5, 4)
        news = Latencies.of(engine, places, 2) - found
        assert (news.pairs(0), news.pairs(1)) == ([[5, 3]], [])
    finally:
        engine.close()
