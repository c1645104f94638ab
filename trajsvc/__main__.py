"""``python -m trajsvc`` is the command line."""

from trajsvc.cli.main import run

run()
