"""The benchmarks: each one checks first that all its rivals give the same answers, and only then measures them."""
