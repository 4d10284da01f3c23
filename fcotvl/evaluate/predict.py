"""Ask systems every question of a benchmark, under both prompts, and keep their raw replies."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from fcotvl.compress.checkpoints import processor_for
from fcotvl.compress.processor import FcotvlProcessor
from fcotvl.core.processes import count, is_main, rank
from fcotvl.core.prompts import MODES, Prompts
from fcotvl.core.records import Record
from fcotvl.inference.generate import Query, generate, window_size
from fcotvl.inference.pictures import PictureEncoder
from fcotvl.inference.pruned_decoding import System
from fcotvl.inference.sharing import share


def predict(
    systems: Mapping[str, Callable[[], System]],
    processor: FcotvlProcessor,
    records: Sequence[Record],
    *,
    benchmark: str,
    prompts: Prompts,
    max_tiles: int,
    batch_size: int,
    folder: Path,
    batch_tokens: int | None = None,
) -> pd.DataFrame:
    """Return one row per system, prompt and question, with the columns that ``evaluate.scoring`` documents.

    Every system answers a window of questions before the next window begins, so that a picture passes the ViT once for
    all of them, and only the pictures of a window are in memory. The processes of a run share the windows.

    Args:
        systems: teacher, students or training-free baselines by name, each with a function that makes it ready. They
            have the teacher's ViT.
        processor: the teacher's; it is adapted to each system's number of visual tokens.
        records: the benchmark's images and questions.
        benchmark: name of the benchmark, for the rows.
        prompts: prompt templates and the lengths of replies.
        max_tiles: largest number of tiles per picture, thumbnail not counted.
        batch_size: most replies decoded together.
        folder: where the replies of finished windows are kept.
        batch_tokens: most tokens of these replies and their prompts; None: any number.
    """
    questions = [(record, turn) for record in records for turn in record.turns]
    size = window_size(batch_size)
    windows = [questions[start : start + size] for start in range(0, len(questions), size)]
    own = sum(map(len, windows[rank() :: count()]))
    bar = tqdm(total=own * len(systems) * len(MODES), desc=benchmark, disable=None if is_main() else True)

    def answer(number: int) -> dict[str, dict[str, list[str]]]:
        """The replies to a window, by system and prompt."""
        window, encoder = windows[number], PictureEncoder()
        replies: dict[str, dict[str, list[str]]] = {name: {} for name in systems}
        first = next(iter(systems))
        for name, ready in systems.items():
            system = ready()
            adapted = processor_for(processor, system.model.config)
            for mode in MODES:
                bar.set_postfix_str(f"{name}, {mode}")
                replies[name][mode] = generate(
                    system.model,
                    adapted,
                    [Query(record.decode, record.id, prompts.ask(turn, mode)) for record, turn in window],
                    max_new_tokens=prompts.max_new_tokens(mode),
                    min_new_tokens=prompts.min_tokens,
                    batch_size=batch_size,
                    batch_tokens=batch_tokens,
                    max_tiles=max_tiles,
                    pruning=system.pruning,
                    encoder=encoder,
                    drafts=replies[first].get(mode),  # others mostly reply as the first
                    label=None,
                )
                bar.update(len(window))
        return replies

    with bar:
        answered = share(folder, len(windows), answer)
    rows = {
        "kind": [turn.kind for _, turn in questions],
        "source": [record.source for record, _ in questions],
        "image_id": [record.sha256 for record, _ in questions],  # rows of a hub's table may share a picture
        "question_id": [turn.id for _, turn in questions],
    }
    references = [list(turn.answers) for _, turn in questions]
    tables = [
        pd.DataFrame(
            {"system": name, "benchmark": benchmark, "prompt": mode}
            | rows
            | {"prediction": [text for window in answered for text in window[name][mode]], "references": references}
        )
        for name in systems
        for mode in MODES
    ]
    return pd.concat(tables, ignore_index=True)
