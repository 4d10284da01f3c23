"""What a stand-in for the hub serves: small InternVL2 checkpoints, and rows of each data set of mix ``public``.

Columns that the mix reads have the names and types of the data sets' cards; some others stand beside them. Pictures are
coarse noise, one tile of InternVL2 or two. Every question has one of two answers, and the models give the first.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from datasets import ClassLabel, Dataset, Features, Image, List, Value

from fcotvl.core.config.mix import Mix
from fcotvl.core.geometry import PATCH_SIZE
from tests.support.datasets import encoded, picture
from tests.support.originals import write_original

MODELS = {"OpenGVLab/InternVL2-1B": "qwen2", "OpenGVLab/InternVL2-2B": "internlm2"}
"""Hub id and kind of LLM."""
REPLIES = ("Yes", "Seen. Answer: Yes")
ANSWERS = ("Yes", "No")
SHARED_ROWS, ROWS = 12, 4
"""Rows of a data set whose pictures go to several splits, and of the others."""
PAGES = 2
"""Pictures of the one row of Docmatix that has several."""

TEXT, WHOLE, PICTURE = Value("string"), Value("int64"), Image()
CHATS = {"images": List(PICTURE), "texts": List({"user": TEXT, "assistant": TEXT, "source": TEXT})}
DOCVQA = {
    "questionId": TEXT,
    "question": TEXT,
    "question_types": List(TEXT),
    "image": PICTURE,
    "docId": WHOLE,
    "ucsf_document_id": TEXT,
    "ucsf_document_page_no": TEXT,
    "answers": List(TEXT),
    "data_split": TEXT,
}
OTSL = {
    "imgid": WHOLE,
    "filename": TEXT,
    "image": PICTURE,
    "html": List(TEXT),
    "html_restore": TEXT,
    "cells": List(List({"tokens": List(TEXT), "bbox": List(WHOLE)})),
    "otsl": List(TEXT),
    "rows": WHOLE,
    "cols": WHOLE,
}
COLUMNS: Mapping[str, Mapping[str, Any]] = {
    "HuggingFaceM4/Docmatix": {**CHATS, "pdf": TEXT},
    "HuggingFaceM4/the_cauldron": CHATS,
    "docling-project/SynthTabNet_OTSL": OTSL,
    "docling-project/PubTabNet_OTSL": OTSL,
    "docling-project/FinTabNet_OTSL": OTSL,
    "allenai/pixmo-docs": {
        "image": PICTURE,
        "image_id": TEXT,
        "questions": {"question": List(TEXT), "answer": List(TEXT)},
    },
    "allenai/CoSyn-400K": {
        "id": TEXT,
        "image": PICTURE,
        "qa_pairs": {"question": List(TEXT), "explanation": List(TEXT), "answer": List(TEXT)},
        "metadata": {"figure_type": TEXT, "persona": TEXT, "topic": TEXT},
        "data": TEXT,
        "code": TEXT,
    },
    "naver-clova-ix/synthdog-en": {"image": PICTURE, "ground_truth": TEXT},
    "naver-clova-ix/synthdog-zh": {"image": PICTURE, "ground_truth": TEXT},
    "HuggingFaceM4/DocumentVQA": DOCVQA,
    "HuggingFaceM4/ChartQA": {
        "image": PICTURE,
        "query": TEXT,
        "label": List(TEXT),
        "human_or_machine": ClassLabel(names=["human", "machine"]),
    },
    "lmms-lab/DocVQA": DOCVQA,
    "lmms-lab/ChartQA": {"type": TEXT, "question": TEXT, "answer": TEXT, "image": PICTURE},
}
"""Columns by id."""


def write_hub(home: Path, mix: Path, *, tile: int = 448) -> None:
    """Fill ``home`` for ``tests.support.hub.serve`` with both models and every hub data set of the file ``mix``."""
    for repo, kind in MODELS.items():
        folder = home / "models" / repo
        folder.mkdir(parents=True)
        write_original(folder, kind, tile=tile, patch=PATCH_SIZE, replies=REPLIES)
    described = Mix.model_validate(yaml.safe_load(mix.read_text()))
    wanted = [(one.options, len(one.splits) > 1) for one in described.sources]
    wanted += [(one.options, False) for one in described.benchmarks.values()]
    cards: dict[str, list[dict[str, Any]]] = {}
    for number, (options, is_shared) in enumerate(wanted):
        repo, config, split = (str(options.get(key, "")) for key in ("id", "config", "split"))
        table = f"{config or 'data'}/{split or 'train'}-00000-of-00001.parquet"
        rows = [_row(repo, config, 1000 * number + i) for i in range(SHARED_ROWS if is_shared else ROWS)]
        if repo == "HuggingFaceM4/Docmatix":
            rows[0]["images"] *= PAGES
        path = home / "datasets" / repo / table
        path.parent.mkdir(parents=True, exist_ok=True)
        Dataset.from_list(rows, features=Features(COLUMNS[repo])).to_parquet(path)
        card = cards.setdefault(repo, [])
        if config:
            files = [{"split": split or "train", "path": table.replace("00000-of-00001", "*")}]
            card.append({"config_name": config, "data_files": files})
    for repo, configs in cards.items():
        listed = yaml.safe_dump({"configs": configs}) if configs else ""
        (home / "datasets" / repo / "README.md").write_text(f"---\n{listed}---\n")


def _row(repo: str, config: str, seed: int) -> dict[str, Any]:
    """One row of a data set; what its columns hold beyond picture, question and answer is empty."""
    size = (448, 448) if seed % 3 else (896, 448)
    shown = {"bytes": encoded(picture(seed, size), "JPEG"), "path": f"{seed}.jpg"}
    question, answer = f"Is there a {config or 'thing'} on page {seed}?", ANSWERS[seed % 2]
    values: dict[str, Any] = {
        "image": shown,
        "images": [shown],
        "texts": [{"user": question, "assistant": answer, "source": config}],
        "question": question,
        "query": question,
        "questions": {"question": [question], "answer": [answer]},
        "qa_pairs": {"question": [question], "explanation": ["It is drawn."], "answer": [answer]},
        "answers": [answer],
        "answer": answer,
        "label": [answer],
        "type": "human_test" if seed % 2 else "augmented_test",
        "human_or_machine": seed % 2,
        "ground_truth": json.dumps({"gt_parse": {"text_sequence": f"page {seed}"}}),
        "html": ["<tr>", "<td>", "</td>", "</tr>"],
        "cells": [[{"tokens": ["a", "b"], "bbox": [0, 0, 9, 9]}]],
    }
    return {name: values.get(name) for name in COLUMNS[repo]}
