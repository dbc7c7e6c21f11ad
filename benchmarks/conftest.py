"""Options of `pytest benchmarks/engine.py`."""


def pytest_addoption(parser):
    group = parser.getgroup("engine")
    group.addoption("--rounds", type=int, default=15, help="how often each library takes its turn (15)")
    group.addoption("--tiny", action="store_true", help="sizes at which all is done in seconds, and nothing is learned")
    group.addoption("--only", default="*", help="rows to run: names or patterns, with commas between them")
