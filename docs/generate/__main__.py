"""``python docs/generate TARGET``: write the sources of the documentation site to TARGET, references to the code included.

``make docs`` does this and builds the site from them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cli_reference
import decisions_index
import gradient_measures_reference
import http_reference
import measures_reference
import notebook_page
import python_reference
import settings_reference
import site_pages

REFERENCES = {
    "decisions/index.md": decisions_index.text,
    "reference/cli.md": cli_reference.text,
    "reference/http.md": http_reference.text,
    "reference/python.md": python_reference.text,
    "reference/measures.md": measures_reference.text,
    "reference/gradient-measures.md": gradient_measures_reference.text,
    "reference/settings.md": settings_reference.text,
}


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit("usage: python docs/generate TARGET")
    site_pages.write(
        Path(sys.argv[1]), {**{name: text() for name, text in REFERENCES.items()}, **notebook_page.pages()}
    )


if __name__ == "__main__":
    main()
