"""The page of claims: what the grids of ``workflow/study.yaml`` show, over questions and training seeds."""
