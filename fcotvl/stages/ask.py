"""Ask a question about a picture."""

import logging
import sys
from pathlib import Path

from tabulate import tabulate

from fcotvl.core.config import Params
from fcotvl.evaluate.ask import ask, read_picture, systems_of

log = logging.getLogger(__name__)


def run(
    params: Params,
    picture: Path,
    question: str,
    *,
    cot: bool = False,
    compare: bool = False,
    model: tuple[Path, ...] = (),
) -> None:
    """Print the reply to QUESTION about the file PICTURE, by default of the student of the last `make repro`.

    With several systems a table says what each read, how long it took, and what it replied.

    Args:
        params: the study; its scale has the prompts, and it says where the student lies.
        picture: PNG, JPEG or another file that Pillow decodes.
        question: in the user's words; the scale's prompt goes around it.
        cot: ask for a chain of thought.
        compare: ask the teacher, the student and FastV at the same ratio.
        model: folders of models instead, as export, convert and teacher write them.

    Raises:
        CheckpointError: there is no such model.
        DataError: the picture cannot be read.
    """
    pixels = read_picture(picture)
    prompts, mode = params.scale_config.prompts, "cot" if cot else "direct"
    replies = {
        name: ask(asked, pixels, question, prompts=prompts, mode=mode)
        for name, asked in systems_of(params, compare=compare, folders=model).items()
    }
    if len(replies) == 1:
        ((name, reply),) = replies.items()
        log.info("%s: %s visual tokens, %.2f s", name, f"{reply.tokens:,}", reply.seconds)
        sys.stdout.write(f"{reply.text}\n")
    else:
        header = ["system", "visual tokens", "s", "reply"]
        rows = [[name, f"{one.tokens:,}", f"{one.seconds:.2f}", one.text] for name, one in replies.items()]
        sys.stdout.write(tabulate(rows, header, tablefmt="grid", disable_numparse=True, maxcolwidths=60) + "\n")
