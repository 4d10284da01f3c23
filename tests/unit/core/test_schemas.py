"""The JSON schemas in workflow/schemas are those of the typed config, and fit every YAML file."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from fcotvl.core.config import json_schemas

ROOT = Path(__file__).parents[3]
FILES = [
    ROOT / "params.yaml",
    *sorted(ROOT.glob("workflow/scales/*.yaml")),
    *sorted(ROOT.glob("workflow/mixes/*.yaml")),
]


def schema_of(path):
    """The schema that the first line of a YAML file names, for editors."""
    prefix, _, name = path.read_text().splitlines()[0].partition("$schema=")
    assert prefix == "# yaml-language-server: "
    return path.parent / name


def fields(schema):
    """Name and schema of every property, in this object and in its definitions."""
    for part in (schema, *schema.get("$defs", {}).values()):
        yield from part.get("properties", {}).items()


def test_the_committed_schemas_are_current():
    committed = {path.stem: json.loads(path.read_text()) for path in ROOT.glob("workflow/schemas/*")}
    assert committed == json_schemas(), "run python -m fcotvl schemas --output workflow/schemas"


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_file_fits_the_schema_that_it_names(path):
    schema = json.loads(schema_of(path).read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(yaml.safe_load(path.read_text()), schema)


def test_all_three_kinds_of_files_are_checked():
    assert {schema_of(path).stem for path in FILES} == set(json_schemas())
    assert len(FILES) >= 11


@pytest.mark.parametrize("name", ["params", "scale", "mix"])
def test_a_wrong_key_or_value_does_not_fit(name):
    schema = json_schemas()[name]
    content = yaml.safe_load(next(f for f in FILES if schema_of(f).stem == name).read_text())
    for wrong in ({"unknown": 1}, {next(iter(content)): None}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(content | wrong, schema)


def test_docstrings_of_fields_are_descriptions():
    found = {name: field.get("description", "") for name, field in fields(json_schemas()["mix"])}
    assert found["weight"] == "Share of the mix, relative to the other sources."
    assert sum(map(bool, found.values())) > len(found) / 2
