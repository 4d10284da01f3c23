"""What a user can fix: one line says what was found, what was expected and what to do."""


class FcotvlError(Exception):
    """A mistake that the user can correct; the command line prints it as one line and exits 2."""


class ParamsError(FcotvlError):
    """A value in params.yaml or in a scale file is unknown, missing or out of range."""


class DataError(FcotvlError):
    """An input file or folder is missing, damaged or not in the expected layout."""


class CheckpointError(FcotvlError):
    """A checkpoint cannot be found, reached or loaded into the model."""
