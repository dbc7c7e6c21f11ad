"""The subcommands of `pargrad`: one module each.

A module has HELP (a line of `pargrad --help`), EXAMPLES (shown by `pargrad NAME --help`), a dataclass Options whose
docstring explains each field, and `run(options)`, which gives the exit code. `how_to_go_on(options)`, where there is
one, says what to do after Ctrl-C or SIGTERM. Modules import what is heavy inside their functions.
"""
