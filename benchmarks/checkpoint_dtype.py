r"""What merging loses where checkpoints are kept in bfloat16, after a run whose own are in float32.

    VARIANT=data/tiny/cnn-r0.5-s0
    python benchmarks/checkpoint_dtype.py --teacher data/tiny/teacher --student $VARIANT/student.safetensors \
        --checkpoints $VARIANT/full/checkpoints --questions data/rendered/corpus/val

The merged student computes in bfloat16 in any case: the average of checkpoints in float32 is rounded once, at the end.
Checkpoints in bfloat16 are rounded before it too. Errors are those of the uniform average, relative to the RMS of each
tensor (their RMS over all numbers), and of each number relative to the largest of its terms (the largest of all; a
rounding comes to at most 2**-8, 0.0039). Replies are greedy and direct.
"""

import argparse
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file
from tabulate import tabulate
from torch import Tensor

from fcotvl.compress.checkpoints import (
    load_processor,
    load_student,
    load_teacher,
    load_tensors,
    processor_for,
    read_student_tensors,
    write_student_tensors,
)
from fcotvl.core import config
from fcotvl.core.answers import final_answer, is_correct
from fcotvl.inference.generate import Query, generate
from fcotvl.merge.average import average_files
from fcotvl.stages.merge import Question, choose_questions


def merged(paths: list[Path], kind: str) -> dict[str, Tensor]:
    """The uniform average, in bfloat16, of checkpoints that are kept as ``kind``."""
    with tempfile.TemporaryDirectory() as folder:
        kept = [Path(folder) / path.name for path in paths]
        for path, target in zip(paths, kept, strict=True):
            tensors, header = read_student_tensors(path)
            write_student_tensors(target, {name: x.to(getattr(torch, kind)) for name, x in tensors.items()}, header)
        average_files(kept, [1 / len(kept)] * len(kept), target := Path(folder) / "merged.safetensors")
        tensors = load_file(target)
    return {name: tensor.bfloat16() for name, tensor in tensors.items()}


def errors(found: dict[str, Tensor], paths: list[Path]) -> tuple[float, float]:
    """RMS error relative to the RMS of each tensor, and the largest error relative to a number's largest term."""
    terms = [load_file(path) for path in paths]
    total, count, largest = 0.0, 0, 0.0
    for name, tensor in found.items():
        own = torch.stack([one[name] for one in terms]).double()
        exact = own.mean(dim=0)
        difference = (tensor.double() - exact).abs()
        total += float((difference / exact.square().mean().sqrt()).square().sum())
        count += tensor.numel()
        largest = max(largest, float((difference / own.abs().amax(dim=0).clamp(min=1e-30)).max()))
    return (total / count) ** 0.5, largest


def replies(arguments: argparse.Namespace, tensors: dict[str, Tensor], questions: list[Question]) -> list[str]:
    """Direct answers of the student with these tensors, in bfloat16."""
    scale = config.load(scale=arguments.scale).scale_config
    model = load_student(load_teacher(arguments.teacher, dtype=torch.bfloat16), [arguments.student])
    load_tensors(model, tensors)
    return generate(
        model,
        processor_for(load_processor(arguments.teacher), model.config),
        [Query(record.decode, record.id, scale.prompts.ask(turn, "direct")) for record, turn in questions],
        max_new_tokens=scale.prompts.max_new_tokens("direct"),
        batch_size=scale.evaluate.batch_size,
        max_tiles=scale.model.max_tiles,
        label=None,
    )


def main() -> None:
    """Print the errors of each kind, and how its students answer."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name in ("teacher", "student", "checkpoints", "questions"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--scale", default="tiny")
    parser.add_argument("--count", type=int, default=400, help="questions")
    arguments = parser.parse_args()
    paths = sorted(arguments.checkpoints.glob("*.safetensors"))
    questions = choose_questions(arguments.questions, arguments.count, 0)
    rows, first = [], None
    for kind in ("float32", "bfloat16"):
        found = merged(paths, kind)
        answers = replies(arguments, found, questions)
        first = first or (found, answers)
        differ = sum(int((found[name] != tensor).sum()) for name, tensor in first[0].items())
        share = differ / sum(tensor.numel() for tensor in found.values())
        equal = sum(one == other for one, other in zip(answers, first[1], strict=True))
        pairs = zip(answers, questions, strict=True)
        right = sum(is_correct(final_answer(text), turn.answers) for text, (_, turn) in pairs)
        rms, largest = errors(found, paths)
        rows.append([kind, f"{rms:.5f}", f"{largest:.5f}", f"{share:.1%}", f"{equal} of {len(answers)}", right])
    header = ["checkpoints", "RMS error", "largest error", "other numbers", "equal replies", "right"]
    print(tabulate(rows, header, tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    main()
