"""``trajsvc mcp``: a real client of the protocol, the real command, a real server."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any, get_args
from urllib.parse import urlencode

import anyio
import pytest
from service_process import Server

from storage_schema.models.spectra import OF
from trajsvc.cli import mcp_beside
from trajsvc.measures.cross import ORIGINS

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
        said = await ask(client, "statements", run=stored)
        assert (said["statements"], said["findings"]) == (summary["statements"], summary["integrity"])
        averages = await ask(client, "averages", run=stored, group="layer/3")
        assert averages == server.ask(f"/v1/runs/{stored}/averages?group=layer/3")[2]
        found = await ask(client, "measures", run=stored, group="layer/3", names="mds,norm", steps="0,64")
        assert found["measures"]["norm"][0] == pytest.approx(
            server.ask(f"/v1/runs/{stored}/measures?group=layer/3")[2]["measures"]["norm"][0]
        )
        assert len((await ask(client, "map", run=stored, origin=0))["map"]) == 13
        compared = await ask(client, "compare", runs=[stored, stored])
        assert len(compared["rows"]) == 2

    talk(server, conversation)


@pytest.mark.slow
@pytest.mark.dear
@pytest.mark.timing
def test_what_is_computed_beside_trajectories_is_submitted_and_asked_for(server: Server, stored: str) -> None:
    other = server.submit("runs:pythia-nano", name="mcp-other", steps="0,64,5000")
    assert server.wait(other["id"])["state"] == "succeeded"

    async def conversation(client: Any) -> None:
        assert await ask(client, "probes") == server.ask("/v1/probes")[2]
        gradients = {
            "probe": "nano",
            "data": "text",
            "sets": ["batch"],
            "examples": 4,
            "batch": 2,
            "length": 16,
            "steps": "0",
        }
        jobs = [
            await ask(client, "submit_spectra", run="mcp-other", of=["weights"], steps="0,64", groups=["layer/0"]),
            await ask(client, "submit_gradients", run="mcp-other", **gradients),
            await ask(client, "submit_cross", a=stored, b="mcp-other"),
        ]
        assert [server.wait(job["id"])["state"] for job in jobs] == ["succeeded"] * 3
        at = "/v1/runs/mcp-other"
        listed = await ask(client, "spectra", run="mcp-other")
        assert [listed] == server.ask(f"{at}/spectra")[2]
        layers = await ask(client, "spectrum_layers", run="mcp-other", names="sigma_1", steps="64", qkv=True)
        assert layers == server.ask(f"{at}/spectra/layers?names=sigma_1&steps=64&qkv=true")[2]
        asked = {"tensor": layers["matrices"][0]["name"], "names": "stable_rank,power_law", "steps": "64"}
        found = await ask(client, "spectrum_measures", run="mcp-other", **asked)
        assert found == server.ask(f"{at}/spectra/measures?{urlencode(asked)}")[2]
        assert (await ask(client, "gradients", run="mcp-other"))["set"] == "batch"
        found = await ask(client, "gradient_measures", run="mcp-other", set="batch", group="layer/3", batch=4)
        assert found == server.ask(f"{at}/gradients/batch/measures?group=layer/3&batch=4")[2]
        found = await ask(client, "gradient_layers", run="mcp-other", set="batch", names="coherence")
        assert found == server.ask(f"{at}/gradients/batch/layers?names=coherence")[2]
        found = await ask(client, "cross", a=stored, b="mcp-other", group="layer/3", steps="0,64", origin="shared")
        assert found == server.ask(f"/v1/cross?a={stored}&b=mcp-other&group=layer/3&steps=0,64&origin=shared")[2]
        bases = await ask(client, "bases")
        assert {"mcp-other", stored} <= set(json.dumps(bases).replace('"', " ").split())
        for of in ("spectra", "gradients"):
            assert await ask(client, "measure_names", of=of) == server.ask(f"/v1/measures/{of}")[2]
        refused = await client.call_tool("gradient_measures", {"run": "mcp-other", "set": "none-such"})
        assert refused.is_error
        assert "batch" in refused.content[0].text, "the sets that there are"

    talk(server, conversation)


def test_choices_are_those_of_the_measures() -> None:
    assert get_args(mcp_beside.Of) == OF
    assert get_args(mcp_beside.Origin) == ORIGINS


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
        assert {"spectrum_measures", "gradient_measures", "cross", "statements"} <= names
        assert not {name for name in names if name.startswith(("submit", "cancel"))}

    talk(server, conversation, "--read-only")
