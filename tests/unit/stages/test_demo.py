"""The page shows what the chain would answer, to this machine alone."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fcotvl.compress.checkpoints import make_student, save_student_tensors
from fcotvl.core import config
from fcotvl.core.errors import CheckpointError, DataError, ParamsError
from fcotvl.evaluate.ask import ask, read_picture, systems_of
from fcotvl.stages import demo
from tests.support import corpora, models

QUESTION = "Total?"
PROMPTS = config.load(scale="smoke", mix="smoke").scale_config.prompts


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A teacher, its merged student and a picture, where the chain puts them."""
    folder = tmp_path_factory.mktemp("demo")
    corpora.write_teacher(folder / "data/smoke/teacher")
    student = make_student(models.teacher(), compressor="cnn", ratio=0.5)
    save_student_tensors(student, folder / "data/smoke/cnn-r0.5-s0/full/merged/merged.safetensors", stage="merge")
    models.picture(112, 56).save(folder / "page.png")
    return folder


@pytest.fixture(scope="module")
def params():
    return config.load(scale="smoke", mix="smoke")


@pytest.fixture(scope="module")
def systems(workspace, params):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(workspace)
        return systems_of(params, compare=True)


@pytest.mark.parametrize("mode", ["direct", "cot"])
def test_each_system_replies_as_it_does_on_the_command_line(workspace, systems, mode):
    file = workspace / "page.png"
    shown = demo.answers(systems, PROMPTS, file, QUESTION, mode)
    expected = [ask(one, read_picture(file), QUESTION, prompts=PROMPTS, mode=mode) for one in systems.values()]
    assert [reply for reply, _, _ in shown] == [one.text for one in expected]
    assert [re.match(r"\*\*(\d+) visual tokens, \d+\.\d\d s\.\*\* ", words)[1] for _, words, _ in shown] == [
        "48", "24", "24",
    ]  # fmt: skip
    drawings = [drawing.tobytes() for _, _, drawing in shown]
    assert len(set(drawings)) == 3


def test_what_is_missing_is_one_line(workspace, systems, params, monkeypatch):
    with pytest.raises(ParamsError, match="there is no picture; give both"):
        demo.answers(systems, PROMPTS, None, QUESTION, "direct")
    with pytest.raises(ParamsError, match="there is no question; give both"):
        demo.answers(systems, PROMPTS, workspace / "page.png", " ", "direct")
    (workspace / "text.png").write_text("no picture")
    with pytest.raises(DataError, match="not a readable image"):
        demo.answers(systems, PROMPTS, workspace / "text.png", QUESTION, "direct")
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(ParamsError, match=r"the page needs gradio .*; run pip install -e '\.\[demo\]'") as caught:
        demo.run(params)
    assert "\n" not in str(caught.value)


def test_examples_are_pictures_of_each_family_with_a_question_for_each_prompt(tmp_path):
    examples = demo.draw_examples(tmp_path)
    assert [file.stem for file, _, _ in examples] == [
        "document-0", "document-1", "chart-0", "chart-1", "infographic-0", "infographic-1",
    ]  # fmt: skip
    assert [mode for _, _, mode in examples] == ["direct", "cot"] * 3
    assert {read_picture(file).size for file, _, _ in examples} == {(224, 224)}
    assert all(question.endswith("?") for _, question, _ in examples)


@pytest.fixture(scope="module")
def gradio():
    return pytest.importorskip("gradio", reason="gradio is not installed: pip install -e '.[demo]'")


@pytest.fixture(scope="module")
def address(gradio, systems, tmp_path_factory):
    """The page, served at a free port."""
    page = demo.build(demo.import_gradio(), systems, PROMPTS, demo.draw_examples(tmp_path_factory.mktemp("examples")))
    _, local, shared = page.launch(**demo.settings(gradio, None), prevent_thread_lock=True)
    yield local
    assert shared is None
    page.close(verbose=False)


def test_a_client_gets_the_answers(address, workspace, systems):
    from gradio_client import Client, handle_file  # noqa: PLC0415 - part of an extra

    client = Client(address, verbose=False, analytics_enabled=False)
    found = client.predict(handle_file(workspace / "page.png"), QUESTION, "cot", api_name="/ask")
    expected = demo.answers(systems, PROMPTS, workspace / "page.png", QUESTION, "cot")
    assert [found[0], found[3], found[6]] == [reply for reply, _, _ in expected]
    drawings = [read_picture(Path(found[place])).tobytes() for place in (2, 5, 8)]
    assert drawings == [drawing.tobytes() for _, _, drawing in expected]
    with pytest.raises(Exception, match="there is no question; give both"):
        client.predict(handle_file(workspace / "page.png"), "", "cot", api_name="/ask")


def test_a_browser_shows_the_page_and_asks_no_other_host(address, tmp_path):
    browser = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), None)
    if browser is None:
        pytest.skip("no Chromium on this machine")
    flags = [
        *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
        *("--virtual-time-budget=15000", f"--user-data-dir={tmp_path}/profile", f"--log-net-log={tmp_path}/net.json"),
    ]
    command = [browser, *flags, "--dump-dom", address]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    for text in ("teacher", "student", "FastV 0.5", "Examples", "chain of thought"):
        assert text in shown.stdout
    log = (tmp_path / "net.json").read_text()
    events = json.loads(log if log.rstrip().endswith("}") else log.rstrip().rstrip(",") + "]}")["events"]
    started = [event["params"] for event in events if {"url", "initiator"} <= event.get("params", {}).keys()]
    origin = address.rstrip("/")  # Chromium has requests of its own
    asked = {one["url"].split("/")[2] for one in started if one["initiator"] == origin and "//" in one["url"]}
    assert asked == {origin.split("/")[2]}


def test_a_port_that_is_taken_is_named(address, gradio, workspace, params, monkeypatch):
    monkeypatch.chdir(workspace)
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")  # restored afterwards
    port = int(address.rstrip("/").rpartition(":")[2])
    with pytest.raises(ParamsError, match=rf"port {port} cannot be served .*; name a free one with --port"):
        demo.run(params, port=port)


def test_a_model_that_is_not_there_is_named(gradio, tmp_path, params, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=r"merged\.safetensors is missing; run make repro"):
        demo.run(params)
