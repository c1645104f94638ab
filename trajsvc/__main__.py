"""``python -m trajsvc`` and ``trajsvc`` are the command line.

Nothing is imported here before ^C is taken care of: the rest of the program takes a third of a second to import.
"""

from trajsvc.cli.interrupts import guarded

YOUNG = 20_000
"""New containers after which cycles among them are sought; Python's own number is 700 of them."""


def run() -> None:
    """Run the ``trajsvc`` command."""
    guarded(_program)


def _program() -> None:
    import sys

    _start_quickly()
    from trajsvc.cli.main import make_app, named

    make_app(named(sys.argv))()


def _start_quickly() -> None:
    """Leave out what takes some 3 % of a command's start each: plugins of pydantic, which are sought in every installed distribution, and
    the search for cycles among thousands of new classes and functions. A user's own choice of plugins holds.
    """
    import gc
    import os

    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    gc.set_threshold(YOUNG)


if __name__ == "__main__":
    run()
