"""What a reader of our documents copies: the code between fences."""

from __future__ import annotations

import re


def code_blocks(text: str, language: str) -> list[str]:
    """The code of each block of ``language`` in a Markdown text; of a console, what is typed after the prompts."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    if language != "console":
        return blocks
    return ["\n".join(re.findall(r"^[$>] (.*)$", block, re.MULTILINE)) for block in blocks]
