"""The endpoints as MCP tools: off unless asked for, and then the same three.

Needs the package `mcp`, which the tests' own requirements leave out: Gradio's extra for it holds
pydantic back.
"""

import ast
import asyncio
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from turbo_kv.bench.serving import serving

mcp = pytest.importorskip("mcp")
ENDPOINT = "/gradio_api/mcp/"


async def asked(url: str) -> tuple[set[str], dict]:
    """The tools' names, and a plan."""
    from mcp.client.streamable_http import streamablehttp_client

    async with (
        streamablehttp_client(url) as (read, write, _),
        mcp.ClientSession(read, write) as session,
    ):
        await session.initialize()
        tools = {tool.name for tool in (await session.list_tools()).tools}
        answer = await session.call_tool("plan", {"context": 8192, "memory": 24.0})
        assert not answer.isError
        return tools, ast.literal_eval(answer.content[0].text)


def test_the_endpoints_are_tools_where_that_is_asked_for():
    with serving(GRADIO_MCP_SERVER="True") as server:
        tools, plan = asyncio.run(asked(server.url + ENDPOINT))
    assert tools == {"analyze", "generate", "plan"}
    assert len(plan["models"]) == 7


def test_they_are_none_otherwise():
    with serving(GRADIO_MCP_SERVER="") as server, pytest.raises(HTTPError):
        urlopen(server.url + ENDPOINT, timeout=30)
