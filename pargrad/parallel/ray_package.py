"""What of a directory is sent with a job, and what is left out.

Chosen here and not left to Ray: what is said is what is sent, and .rayignore holds with every Ray from 2.52 on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

IGNORE_FILES = (".gitignore", ".rayignore")
NEVER_SENT = (".git/", ".venv/", "venv/", "__pycache__/")  # Ray's own list
LIMIT = 512 << 20  # bytes that Ray takes for a package
LARGEST = 3  # files that are named when all of them are too much


class Contents(NamedTuple):
    files: list[Path]  # in order, relative to the directory
    size: int  # bytes
    left_out: list[str]  # by the ignore files and NEVER_SENT; a directory with a slash behind it


Matcher = Callable[[str], bool]


def contents_of(directory: Path) -> Contents:
    """What of a directory is sent. An ignore file holds for all below it; what it leaves out, none takes in again.

    Raises ValueError where there is no such directory, or too much in it.
    """
    if not directory.is_dir():
        raise ValueError(f"--working-dir {directory}: there is no such directory")
    files: list[Path] = []
    left_out: list[str] = []
    rules: dict[Path, list[Matcher]] = {directory.parent: [matcher_of(directory, NEVER_SENT)]}
    for place, directories, names in os.walk(directory):
        here = Path(place)
        rules[here] = [*rules[here.parent], *matchers_in(here)]

        def ignored(name: str, here: Path = here) -> bool:
            return any(matches(os.path.join(here, name)) for matches in rules[here])

        skipped = [name for name in directories if ignored(name + "/") or (here / name).is_symlink()]
        directories[:] = sorted(set(directories) - set(skipped))
        chosen = [name for name in sorted(names) if not ignored(name) and (here / name).is_file()]
        files += [(here / name).relative_to(directory) for name in chosen]
        left_out += [f"{(here / name).relative_to(directory)}/" for name in sorted(skipped)]
        left_out += [str((here / name).relative_to(directory)) for name in sorted(set(names) - set(chosen))]
    sizes = {file: (directory / file).stat().st_size for file in files}
    size = sum(sizes.values())
    if size > LIMIT:
        largest = sorted(sizes, key=lambda file: -sizes[file])[:LARGEST]
        named = ", ".join(f"{file} ({megabytes(sizes[file])})" for file in largest)
        raise ValueError(
            f"--working-dir {directory} has {megabytes(size)} in {len(files):,} files, and {megabytes(LIMIT)} can be "
            f"sent. The largest: {named}. Name what is not needed in {directory / '.rayignore'}; data belong on a "
            "volume that the cluster sees"
        )
    return Contents(files, size, left_out)


def matchers_in(directory: Path) -> list[Matcher]:
    """The rules of the ignore files in this very directory."""
    names = IGNORE_FILES[1:] if os.environ.get("RAY_RUNTIME_ENV_IGNORE_GITIGNORE") == "1" else IGNORE_FILES
    there = [directory / name for name in names if (directory / name).is_file()]
    return [matcher_of(directory, path.read_text().splitlines()) for path in there]


def matcher_of(directory: Path, lines: Iterable[str]) -> Matcher:
    """Whether lines of an ignore file, in a directory, speak of a path below it."""
    from ray._private.thirdparty.pathspec import PathSpec

    rules = PathSpec.from_lines("gitwildmatch", lines)
    return lambda path: rules.match_file(path[len(str(directory)) :].lstrip("/"))


def lay_out(directory: Path, files: Iterable[Path], target: Path) -> None:
    """Links to the files, in a directory that has nothing else: Ray follows them when it packs it."""
    target.mkdir()
    for file in files:
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        (target / file).symlink_to(directory / file)


def megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
