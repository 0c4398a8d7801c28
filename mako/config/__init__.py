"""The configuration of a cluster: YAML files in, one checked value out.

reading    files, and how several combine
schema     what may stand in them
cluster    the cluster that they describe: partitions, processes, addresses
"""

from mako.config.cluster import ClusterConfig, Process, Site, load, resolve
from mako.config.schema import Document

__all__ = ["ClusterConfig", "Document", "Process", "Site", "load", "resolve"]
