"""Ask systems side by side on a page in the browser."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from PIL import Image

from fcotvl.core.config import Params
from fcotvl.core.errors import FcotvlError, ParamsError
from fcotvl.core.prompts import Prompts
from fcotvl.evaluate.ask import Asked, ask, read_picture, systems_of, wording
from fcotvl.evaluate.token_map import draw, token_map
from fcotvl.toy.render import FAMILIES, render

if TYPE_CHECKING:
    import gradio

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
"""No other machine reaches the page."""
EXAMPLES = 2
"""Of each family."""
INTRODUCTION = """# fcotvl
The same question to each system. The lines on a picture enclose what its visual tokens read."""
Example = tuple[Path, str, str]
"""A picture, a question about it, and the prompt."""


def run(params: Params, *, port: int = 7860, model: tuple[Path, ...] = ()) -> None:
    """Open a page on this machine, by default about teacher, student and FastV of the last `make repro`.

    It shows replies, seconds, visual tokens, and what each token covers. Ctrl-C ends it. The page is served to this
    machine alone and loads nothing from elsewhere.

    Args:
        params: the study; its scale has the prompts, and it says where the student lies.
        port: where the page is served.
        model: folders of models instead, as export, convert and teacher write them.

    Raises:
        CheckpointError: there is no such model.
        ParamsError: the port is taken, or gradio is not installed.
    """
    gr = import_gradio()
    systems = systems_of(params, compare=True, folders=model)
    with TemporaryDirectory(prefix="fcotvl-demo-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder  # what is uploaded and drawn goes when the page does
        page = build(gr, systems, params.scale_config.prompts, draw_examples(Path(folder)))
        try:
            page.launch(**settings(gr, port), prevent_thread_lock=True)
        except OSError as error:
            raise ParamsError(f"port {port} cannot be served ({error}); name a free one with --port") from error
        log.info("http://%s:%s shows %s; Ctrl-C ends it", HOST, port, ", ".join(systems))
        page.block_thread()


def answers(
    systems: Mapping[str, Asked], prompts: Prompts, picture: Path | None, question: str, mode: str
) -> list[tuple[str, str, Image.Image]]:
    """Of each system its reply, its visual tokens and seconds in words, and a drawing of what the tokens cover.

    Args:
        systems: by name.
        prompts: those of the scale.
        picture: a file.
        question: in the user's words.
        mode: ``direct`` or ``cot``.

    Raises:
        DataError: the picture cannot be read.
        ParamsError: there is no picture or no question.
    """
    if picture is None or not question.strip():
        raise ParamsError(f"there is no {'question' if picture else 'picture'}; give both")
    pixels = read_picture(picture)
    shown = []
    for asked in systems.values():
        reply = ask(asked, pixels, question, prompts=prompts, mode=mode)
        tokens = token_map(*asked, pixels, wording(question, prompts, mode))
        words = f"**{reply.tokens:,} visual tokens, {reply.seconds:.2f} s.** {tokens.legend()}."
        shown.append((reply.text, words, draw(pixels, tokens)))
    return shown


def draw_examples(folder: Path) -> list[Example]:
    """Pictures of the renderer that the tiny model was never trained on, each with one of its questions."""
    found = []
    for family in FAMILIES:
        for number in range(EXAMPLES):
            rendered = render(family, "test", number, seed=0)
            kind, mode = (("extractive", "direct"), ("reason", "cot"))[number % 2]
            turn = next(turn for turn in rendered.turns if turn.kind == kind)
            file = folder / f"{family}-{number}.png"
            rendered.image.save(file)
            found.append((file, turn.question, mode))
    return found


def build(gr: Any, systems: Mapping[str, Asked], prompts: Prompts, examples: Sequence[Example]) -> gradio.Blocks:
    """The page, not yet served; ``gr`` is the module gradio."""

    def reply(picture: str | None, question: str, mode: str) -> list[str | Image.Image]:
        try:
            found = answers(systems, prompts, Path(picture) if picture else None, question, mode)
        except FcotvlError as error:
            raise gr.Error(str(error)) from error
        return [part for parts in found for part in parts]

    with gr.Blocks(title="fcotvl", analytics_enabled=False) as page:
        gr.Markdown(INTRODUCTION)
        with gr.Row():
            # A file as it is: gradio would write it anew.
            picture = gr.Image(
                type="filepath", image_mode=None, sources=["upload", "clipboard"], label="Picture", height=300
            )
            with gr.Column():
                question = gr.Textbox(label="Question")
                mode = gr.Radio(
                    [("direct answer", "direct"), ("chain of thought", "cot")], value="direct", label="Prompt"
                )
                button = gr.Button("Ask", variant="primary")
        outputs = []
        with gr.Row():
            for name in systems:
                with gr.Column(min_width=280):
                    gr.Markdown(f"## {name}")
                    outputs += [gr.Textbox(label="Reply", lines=3), gr.Markdown()]
                    outputs.append(gr.Image(show_label=False, format="png", interactive=False, buttons=["fullscreen"]))
        gr.Examples([[str(file), *rest] for file, *rest in examples], [picture, question, mode])
        gr.on([button.click, question.submit], reply, [picture, question, mode], outputs, api_name="ask")
    return page


def settings(gr: Any, port: int | None) -> dict[str, Any]:
    """How the page is served: to this machine, with its own fonts, without a link that others can open."""
    theme = gr.themes.Base(font=("system-ui", "sans-serif"), font_mono=("monospace",))
    return {
        "server_name": HOST,
        "server_port": port,
        "share": False,
        "ssr_mode": False,
        "theme": theme,
        "footer_links": [],
        "quiet": True,
    }


def import_gradio() -> Any:
    """The module gradio.

    Raises:
        ParamsError: it is not installed.
    """
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}  # read at import
    try:
        import gradio  # noqa: PLC0415 - an extra, and slow to import
    except ImportError as error:
        raise ParamsError(f"the page needs gradio ({error}); run pip install -e '.[demo]'") from error
    return gradio
