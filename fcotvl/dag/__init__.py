"""One description, two engines.

``Pipeline`` reads dvc.yaml and offers it as Snakemake rules; ``sync`` tells Snakemake what DVC wrote, ``commit`` tells
DVC what Snakemake built.

Nothing heavy is imported: this runs whenever Snakemake starts.
"""

from fcotvl.dag.exchange import begin, commit, end, refuse_beside_dvc, sync
from fcotvl.dag.pipeline import Pipeline

__all__ = ["Pipeline", "begin", "commit", "end", "refuse_beside_dvc", "sync"]
