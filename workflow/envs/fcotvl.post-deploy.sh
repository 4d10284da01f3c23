#!/usr/bin/env bash
# Run by Snakemake once the environment is there, in the folder of the Snakefile.
set -euo pipefail
python -m pip install --quiet -r requirements.lock
