"""One description, two engines.

``Chain`` reads dvc.yaml and offers it as Snakemake rules; ``sync`` tells Snakemake what DVC wrote,
``commit`` tells DVC what Snakemake built, ``publish`` makes DVC experiments of finished variants.

Only the standard library and yaml: this runs whenever Snakemake starts.
"""

from fcotvl.dag.exchange import begin, commit, end, sync
from fcotvl.dag.pipeline import Chain

__all__ = ["Chain", "begin", "commit", "end", "sync"]
