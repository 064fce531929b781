"""Who asks for a change: the holder of a token, or the user of this machine.

The command line or the launchpad says which token counts and has the registry resolve the caller to an administrator
once; services take that administrator's name as `actor`. Reading and running the pipeline need no administrator: access
to the lake's files is enough.
"""

import os

from pydantic import SecretStr

from octo_pipeline.registry.records import Caller


def caller(token: SecretStr | None) -> Caller:
    """The caller with this token or, without one, the user this process runs as."""
    return Caller(os_user(), token.get_secret_value() if token is not None else None)


def os_user() -> str:
    """The name of the user this process runs as.

    The system is asked, not the environment, because anybody can set LOGNAME and USER to any name.
    """
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # a container's user without a name
        return f"uid-{os.geteuid()}"
