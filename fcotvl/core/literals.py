"""Python lists in text: how VLMEvalKit's tables hold several answers."""

import ast
from typing import Any


def read_list(text: str) -> list[Any] | None:
    """The list that ``text`` reads as, ``None`` where it reads as something else. Nothing is executed."""
    try:
        found = ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):  # TypeError: {[1]} cannot be hashed
        return None
    return found if isinstance(found, list) else None
