"""Write the JSON schemas of the YAML files."""

from pathlib import Path

from fcotvl.core.config import Params, json_schemas
from fcotvl.core.io import write_json


def run(params: Params, *, output: Path) -> None:
    """Write ``params.json``, ``scale.json`` and ``mix.json``.

    Args:
        params: not used.
        output: folder of the schemas, which the first line of each YAML file names.
    """
    del params
    for name, schema in json_schemas().items():
        write_json(output / f"{name}.json", schema)
