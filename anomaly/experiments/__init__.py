"""One-class experiments: the protocol, a run, a benchmark, its tables."""
