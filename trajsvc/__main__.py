"""``python -m trajsvc`` and ``trajsvc`` are the command line.

Nothing is imported here before ^C is taken care of: the rest of the program takes a third of a second to import.
"""

from trajsvc.cli.interrupts import guarded


def run() -> None:
    """Run the ``trajsvc`` command."""
    guarded(_program)


def _program() -> None:
    import sys

    from trajsvc.cli.main import make_app, named

    make_app(named(sys.argv))()


if __name__ == "__main__":
    run()
