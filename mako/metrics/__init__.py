"""What a process counts and measures, and how a scraper reads it. No I/O, no clock.

registry   counters, gauges and histograms, by name and labels
text       all of them in Prometheus' text format
catalogue  the ones that a server has
"""

from mako.metrics.catalogue import ServerMetrics
from mako.metrics.registry import Counter, Family, Gauge, Histogram, Registry
from mako.metrics.text import render

__all__ = ["Counter", "Family", "Gauge", "Histogram", "Registry", "ServerMetrics", "render"]
