"""``trajsvc mcp``: a real client of the protocol, the real command, a real server."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from service_process import Server

mcp = pytest.importorskip("mcp")
from mcp import StdioServerParameters  # noqa: E402
from mcp.client import Client  # noqa: E402
from mcp.client.stdio import stdio_client  # noqa: E402

Talk = Callable[[Any], Awaitable[None]]


def talk(server: Server, conversation: Talk, *words: str) -> None:
    command = StdioServerParameters(
        command=sys.executable, args=["-m", "trajsvc", "mcp", "--server", server.address, *words], env=dict(os.environ)
    )

    async def run() -> None:
        async with Client(stdio_client(command)) as client:
            await conversation(client)

    anyio.run(run)


async def ask(client: Any, tool: str, **arguments: Any) -> Any:
    got = await client.call_tool(tool, arguments)
    assert not got.is_error, got.content[0].text
    found = [json.loads(part.text) for part in got.content]
    return found[0] if len(found) == 1 else found


@pytest.mark.slow
def test_a_conversation(server: Server, stored: str) -> None:
    async def conversation(client: Any) -> None:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert {"plan", "audit", "submit", "job", "measures", "map", "compare"} <= tools.keys()
        assert all(tool.description for tool in tools.values())
        planned = await ask(client, "plan", source="runs:pythia-nano", steps="last:3")
        assert planned["steps"] == [3500, 4250, 5000]
        job = await ask(client, "submit", source="runs:pythia-nano")
        assert (await ask(client, "job", job=job["id"]))["state"] in ("accepted", "running", "succeeded")
        summary = await ask(client, "summary", run=stored)
        assert any(s["kind"] == "straightness" for s in summary["statements"])
        found = await ask(client, "measures", run=stored, group="layer/3", names="mds,norm", steps="0,64")
        assert found["measures"]["norm"][0] == pytest.approx(
            server.ask(f"/v1/runs/{stored}/measures?group=layer/3")[2]["measures"]["norm"][0]
        )
        assert len((await ask(client, "map", run=stored, origin=0))["map"]) == 13
        compared = await ask(client, "compare", runs=[stored, stored])
        assert len(compared["rows"]) == 2

    talk(server, conversation)


def test_errors_come_with_what_helps(server: Server, stored: str) -> None:
    async def conversation(client: Any) -> None:
        for tool, arguments, words in (
            ("measures", {"run": stored, "names": "mdz"}, "mds"),
            ("summary", {"run": "missing"}, "no run"),
            ("summary", {"run": "../../live"}, "Not Found"),
            ("plan", {"source": "/etc"}, ""),
        ):
            got = await client.call_tool(tool, arguments)
            assert got.is_error
            assert words in got.content[0].text
            assert "Traceback" not in got.content[0].text

    talk(server, conversation)


def test_a_reader_cannot_submit(server: Server, stored: str) -> None:
    async def conversation(client: Any) -> None:
        names = {tool.name for tool in (await client.list_tools()).tools}
        assert "measures" in names
        assert not {"submit", "cancel"} & names

    talk(server, conversation, "--read-only")
