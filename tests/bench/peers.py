"""Other gateways, installed into folders under `var/bench/peers` and measured in the same run.

LiteLLM comes from PyPI. Portkey's gateway comes from npm with an older `@hono/node-server`, because with later
ones it answers 500 to streams.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from tests.bench.cells import PACED, PLAIN, SLOW, Target
from tests.bench.gateway import check_answers
from tests.bench.mock import Mock
from tests.bench.processes import GATEWAY_CPU, OUTPUT, BenchError, Started, free_port

FOLDER = OUTPUT / "peers"
MASTER_KEY = "sk-bench-master"
PORTKEY = {"@portkey-ai/gateway": "1.15.2", "@hono/node-server": "1.13.8"}
UP_SECONDS = 180


@contextmanager
def litellm(mock: Mock) -> Iterator[Target]:
    """LiteLLM's proxy without a database, one worker."""
    folder = FOLDER / "litellm"
    program = folder / "bin" / "litellm"
    if not program.exists():
        _install([sys.executable, "-m", "venv", str(folder)])
        _install([str(folder / "bin" / "pip"), "install", "--quiet", "litellm[proxy]"])
    settings = folder / "bench.json"
    settings.write_text(json.dumps(_litellm_settings(mock)))
    port = free_port()
    command = [str(program), "--config", str(settings), "--host", "127.0.0.1", "--port", str(port)]
    command += ["--num_workers", "1", "--telemetry", "False"]
    up = f"http://127.0.0.1:{port}/health/liveliness"
    with _running("litellm", command, up) as pid:
        yield _target("LiteLLM", port, pid, {"Authorization": f"Bearer {MASTER_KEY}"})


@contextmanager
def portkey(mock: Mock) -> Iterator[Target]:
    """Portkey's gateway; it has no key check and stores nothing."""
    folder = FOLDER / "portkey"
    server = folder / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    if not server.exists():
        folder.mkdir(parents=True, exist_ok=True)
        overrides = {"@hono/node-server": PORTKEY["@hono/node-server"]}
        package = {"private": True, "dependencies": PORTKEY, "overrides": overrides}
        (folder / "package.json").write_text(json.dumps(package))
        _install(["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder)])
    port = free_port()
    command = ["node", str(server), f"--port={port}", "--headless"]
    headers = {
        "Authorization": "Bearer sk-bench",
        "x-portkey-provider": "openai",
        "x-portkey-custom-host": f"{mock.url}/v1",
    }
    with _running("portkey", command, f"http://127.0.0.1:{port}/") as pid:
        yield _target("Portkey", port, pid, headers)


PEERS: Sequence[Callable[[Mock], AbstractContextManager[Target]]] = (litellm, portkey)


def _litellm_settings(mock: Mock) -> dict[str, object]:
    # A known model's name, so that looking up its price is part of the work, as it is in use.
    upstream = {"model": "openai/gpt-4o-mini", "api_base": f"{mock.url}/v1", "api_key": "sk-bench"}
    slow = {"extra_headers": {"x-mock-latency-ms": "200"}}
    paced = {"extra_headers": {"x-mock-chunks": "50", "x-mock-chunk-ms": "20"}}
    routes = {PLAIN: upstream, SLOW: upstream | slow, PACED: upstream | paced}
    return {
        "model_list": [{"model_name": name, "litellm_params": route} for name, route in routes.items()],
        "litellm_settings": {"telemetry": False, "num_retries": 0},
        "general_settings": {"master_key": MASTER_KEY},
    }


def _target(name: str, port: int, pid: int, headers: dict[str, str]) -> Target:
    target = Target(name, f"http://127.0.0.1:{port}/v1/chat/completions", headers, pid)
    check_answers(target)
    return target


@contextmanager
def _running(name: str, command: Sequence[str], up: str) -> Iterator[int]:
    started = Started(name, command, cpus=str(GATEWAY_CPU))
    try:
        started.wait_until_up(up, seconds=UP_SECONDS)
        yield started.pid
    finally:
        started.stop()


def _install(command: Sequence[str]) -> None:
    print(f"  {' '.join(command[:4])} …", flush=True)
    done = subprocess.run(command, cwd=Path("/"), capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"`{' '.join(command)}` failed:\n{(done.stdout + done.stderr)[-2000:]}")
