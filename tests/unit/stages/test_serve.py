"""OpenAI's own client gets the replies of ``generate`` from a served student."""

from __future__ import annotations

import base64
import os
import socket
import subprocess
import sys
import time
from io import BytesIO
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from fcotvl.compress.checkpoints import make_student, processor_for
from fcotvl.core import config
from fcotvl.core.errors import CheckpointError, FcotvlError
from fcotvl.core.prompts import Prompts
from fcotvl.export.export import export_student
from fcotvl.stages import serve
from tests.support import models
from tests.support.documents import code_blocks
from tests.support.imports import ROOT

fastapi, uvicorn, openai = (
    pytest.importorskip(name, reason="the extra serve is not installed") for name in ("fastapi", "uvicorn", "openai")
)

PICTURE = models.picture(112, 56)
TOKENS = 8


@pytest.fixture(scope="module")
def student():
    return make_student(models.teacher(), compressor="cnn", ratio=0.5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, student):
    """A project with an exported student in ``mine``."""
    home = tmp_path_factory.mktemp("project")
    for name in ("params.yaml", "workflow"):
        (home / name).symlink_to(ROOT / name)
    export_student(student, models.processor(), home / "mine", name="mine", stage="sft", prompts=Prompts())
    return home


@pytest.fixture(scope="module")
def port(folder):
    """Of a running server on the loopback device."""
    with socket.create_server(("localhost", 0)) as probe:
        free = probe.getsockname()[1]
    command = [sys.executable, "-m", "fcotvl", "serve", "mine", "--port", str(free)]
    with (folder / "server.txt").open("w") as said:
        server = subprocess.Popen(
            command, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=said, stderr=said
        )
    try:
        for _ in range(600):
            assert server.poll() is None, (folder / "server.txt").read_text()
            try:
                urlopen(f"http://localhost:{free}/health", timeout=5).close()
                break
            except (URLError, OSError):
                time.sleep(0.2)
        yield free
    finally:
        server.terminate()
        server.wait(60)


@pytest.fixture
def client(port, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "localhost")
    with openai.OpenAI(base_url=f"http://localhost:{port}/v1", api_key="none", max_retries=0) as opened:
        yield opened


def ask(client, question, **kwargs):
    buffer = BytesIO()
    PICTURE.save(buffer, format="PNG")
    url = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": question}]
    chat = [{"role": "user", "content": content}]
    return client.chat.completions.create(model="mine", messages=chat, max_tokens=TOKENS, **kwargs)


def expected(student, question, tokens=TOKENS):
    processor = processor_for(models.processor(), student.config)
    inputs = processor([PICTURE], processor.render(question))
    reply = student.generate(**inputs, max_new_tokens=tokens, do_sample=False)
    return processor.decode(reply[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True), inputs


def test_the_client_gets_the_reply_of_generate(client, student):
    said = ask(client, "Total?")
    text, inputs = expected(student, "Total?")
    assert text
    assert said.choices[0].message.content == text
    assert said.usage.prompt_tokens == inputs["input_ids"].shape[1]


def test_a_streamed_reply_is_the_same_text(client, student):
    parts = [part.choices[0].delta.content or "" for part in ask(client, "Total?", stream=True)]
    assert "".join(parts) == expected(student, "Total?")[0]
    assert len([part for part in parts if part]) > 1


def test_a_picture_token_in_a_question_is_letters(client, student):
    said = ask(client, "Why <IMG_CONTEXT>?")
    assert said.usage.prompt_tokens == expected(student, "Why " + "x" * 13 + "?")[1]["input_ids"].shape[1]


def test_the_served_model_is_listed(client):
    assert [model.id for model in client.models.list()] == ["mine"]


def test_the_manuals_client_prints_the_reply(port, student, tmp_path, monkeypatch, capsys):
    page = (ROOT / "docs/running.md").read_text(encoding="utf-8")
    (code,) = code_blocks(page.split("\n## Serve a student\n")[1].partition("\n## ")[0], "python")
    assert "my-student" in code
    assert "localhost:8000" in code
    PICTURE.save(tmp_path / "page.png")
    monkeypatch.chdir(tmp_path)
    exec(code.replace("my-student", "mine").replace("localhost:8000", f"localhost:{port}"), {})
    text, _ = expected(student, "What is the total? Answer briefly.", tokens=64)
    assert capsys.readouterr().out == f"{text}\n"


def test_what_cannot_be_served_is_one_line(tmp_path, folder, port, monkeypatch):
    params = config.load(scale="smoke", mix="smoke")
    with pytest.raises(CheckpointError, match="is not a folder"):
        serve.run(params, tmp_path / "none", port=0)
    with pytest.raises(FcotvlError, match="the server cannot listen: Address already in use"):
        serve.run(params, folder / "mine", port=port)
    models.processor().save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="is not a model"):
        serve.run(params, tmp_path, port=0)
    monkeypatch.setattr(serve, "is_serve_available", lambda: False)
    with pytest.raises(FcotvlError, match=r"install them with pip install '\.\[serve\]'"):
        serve.run(params, folder / "mine", port=0)
