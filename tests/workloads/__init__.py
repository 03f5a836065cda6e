"""Programs with known traffic, for tests and benchmarks to trace."""
