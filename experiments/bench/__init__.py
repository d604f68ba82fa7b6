"""The benchmark's parts: graphs, peers, timing, suites, report."""
