"""A hub that hangs up is one line and exit code 2, wherever it is asked."""

import http.server
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


class HangUp(http.server.BaseHTTPRequestHandler):
    """Close the connection of every request."""

    def handle(self):
        pass


@pytest.fixture
def hub():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), HangUp) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("teacher --scale internvl2-1b --bundled none --teacher teacher", "OpenGVLab/InternVL2-1B cannot be fetched"),
        ("prefetch --mix public --part 1-of-1 --summary prefetch/1.json", "cannot be read (Server disconnected"),
    ],
)
def test_a_hub_that_hangs_up_is_one_line(tmp_path, hub, command, message):
    for name in ("params.yaml", "workflow", "data"):
        (tmp_path / name).symlink_to(ROOT / name)
    environment = os.environ | {"HF_ENDPOINT": hub, "HF_HOME": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    for name in ("HF_HUB_OFFLINE", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        environment.pop(name, None)
    arguments = [sys.executable, "-m", "fcotvl", *command.split(), "--log", "log"]
    done = subprocess.run(arguments, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert (tmp_path / "log").read_text().count("\n") == 1
