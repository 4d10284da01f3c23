"""What a user can fix: one line says what was found, what was expected and what to do."""


class FcotvlError(Exception):
    """A mistake that the user can correct; the command line prints it as one line and exits 2."""


class ParamsError(FcotvlError):
    """A value in params.yaml or in a scale file is unknown, missing or out of range."""


class DataError(FcotvlError):
    """An input file or folder is missing, damaged or not in the expected layout."""


class CheckpointError(FcotvlError):
    """A checkpoint cannot be found, reached or loaded into the model."""


HTTP_LIBRARIES = {"aiohttp", "httpcore", "httpcore2", "httpx", "httpx2", "requests", "urllib3"}


def is_transport_error(error: BaseException) -> bool:
    """Did the network fail? The errors of HTTP libraries have no base in common, and ``OSError`` is not one either."""
    return any(kind.__module__.partition(".")[0] in HTTP_LIBRARIES for kind in type(error).__mro__)
