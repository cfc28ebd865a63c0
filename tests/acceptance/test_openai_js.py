"""The official JavaScript client, unmodified; needs node and the client's package.

`npm install --prefix tests/acceptance/js` makes it ready; without it this is skipped,
for the default run reaches no registry.
"""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from tests.http_service import serving

JS = Path(__file__).parent / "js"
NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(
    NODE is None or not (JS / "node_modules" / "openai").exists(),
    reason="needs node, and `npm install --prefix tests/acceptance/js`",
)


@pytest.mark.timeout(120)
async def test_the_javascript_client_passes_its_checks() -> None:
    async with serving(lambda _: "one two three", replicas=2) as service:
        process = await asyncio.create_subprocess_exec(
            str(NODE),
            str(JS / "client.mjs"),
            *service.urls,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        assert process.returncode == 0, output.decode()
        assert output.decode().endswith("ok\n")
