"""Parameters of merging, as in params.yaml."""

from fcotvl.core.config import MergeParams

PARAMS = MergeParams(weights="clip", tau=0.01, permutations=32)
