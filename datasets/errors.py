from ..checks import UserError


class DataError(UserError, ValueError):
    """Data that cannot be used; the message names the file (if there is one), the field and the problem."""
