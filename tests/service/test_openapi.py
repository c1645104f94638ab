"""The committed description of the API is the one that the server gives, and what the server does is what it says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from service_process import Server, environment

from api.__main__ import TARGET, text

CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
    "response_schema_conformance",
)  # fmt: skip
EXAMPLES = os.environ.get("TRAJSVC_FUZZ_EXAMPLES", "4")
"""random requests of every operation, beside those that the description's values and bounds give"""


def test_the_committed_description_is_the_present_one() -> None:
    assert TARGET.read_text("utf-8") == text(), "write it anew: python -m api"


@pytest.mark.slow
def test_every_operation_has_an_id_a_tag_and_words() -> None:
    description = json.loads(text())
    ids = []
    for path, operations in description["paths"].items():
        for operation in operations.values():
            ids.append(operation["operationId"])
            assert operation["tags"], path
            assert operation["description"], path
            assert {"4XX", "5XX"} & operation["responses"].keys() or path == "/ready"
    assert len(ids) == len(set(ids))


@pytest.mark.slow
def test_no_request_that_fits_the_description_breaks_the_server(server: Server, stored: str, tmp_path: Path) -> None:
    pytest.importorskip("schemathesis")
    done = subprocess.run(
        [
            Path(sys.executable).with_name("schemathesis"), "run", str(TARGET), "--url", server.address, "--checks", ",".join(CHECKS),
            "--phases", "examples,coverage,fuzzing", "--max-examples", EXAMPLES, "--seed", "7", "--request-timeout", "30",
            "--exclude-operation-id", "getJobEvents", "--continue-on-failure",
        ],
        env=environment(), cwd=tmp_path, capture_output=True, text=True, timeout=400 + 60 * int(EXAMPLES),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert server.ask("/live")[0] == 200
