"""`python -m pargrad` is the command `pargrad`."""

from pargrad.cli import entry_point

if __name__ == "__main__":
    entry_point()
