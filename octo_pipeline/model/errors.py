"""The one exception whose text is written for the person who meets it.

Every module may raise it; the command line prints its text without a traceback and exits with 1, and
Dagster shows it as the failure's description. It holds no logic.
"""


class OctoError(Exception):
    """A sentence that says what is wrong, where, and what to do."""


class NotAskedError(OctoError):
    """A vendor could not be asked (network, our own credentials, patience), so nothing is known of the account."""
