"""Run lm-evaluation-harness with fcotvl's models and tasks."""

import sys
import traceback
from pathlib import Path

from fcotvl.core.config import Params
from fcotvl.core.errors import ParamsError


def run(params: Params, arguments: tuple[str, ...]) -> None:
    """Run lm-eval's own command line with the model `fcotvl` and the tasks `fcotvl_*`.

    Tasks ask the questions of the study's mix with the prompts and limits of its scale; the model has the scale's data
    type and batch sizes. ARGUMENTS that say otherwise win.

    Args:
        params: the study.
        arguments: lm-eval's own, such as `ls subtasks`, `validate --tasks fcotvl_docvqa_val` or `run --model fcotvl
            --model_args pretrained=my-student --tasks fcotvl_docvqa_val`.

    Raises:
        ParamsError: lm-eval refuses its arguments.
    """
    import lm_eval.models  # noqa: F401, PLC0415 - slow, and needed only here; registers lm-eval's models
    from lm_eval._cli.harness import HarnessCLI  # noqa: PLC0415

    from fcotvl.harness import TASKS, model  # noqa: F401, PLC0415 - registers ours
    from fcotvl.harness.task import study_metadata  # noqa: PLC0415

    command_line = HarnessCLI()
    sys.argv = ["fcotvl lm-eval", *arguments]  # where lm-eval reads its arguments
    given = command_line.parse_args()
    if hasattr(given, "include_path"):
        given.include_path = [str(TASKS), *([given.include_path] if given.include_path else [])]
    if given.command == "run":
        scale = params.scale_config
        curated = Path("data") / params.mix / "benchmarks"
        study = study_metadata(scale.prompts, params.mix, params.mix_config.benchmarks, curated)
        given.metadata = study | (given.metadata or {})
        if given.model == "fcotvl":
            own = {"dtype": scale.model.dtype, "batch_tokens": scale.evaluate.batch_tokens}
            given.model_args = own | (given.model_args or {})
            given.batch_size = getattr(given, "batch_size", scale.evaluate.batch_size)
    try:
        command_line.execute(given)
    except ValueError as error:
        where = traceback.extract_tb(error.__traceback__)[-1].filename
        if Path(where).parent.parts[-2:] != ("lm_eval", "config"):  # its check of the arguments
            raise
        raise ParamsError(str(error)) from error
