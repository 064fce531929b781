"""Who asks for a change: the holder of a token, or the user of this machine.

A face (command line, launchpad) says which token counts and has the registry resolve the caller to an administrator
once; services take that administrator's name as `actor`. Reading, and running the pipeline, is open to whoever may
read and write the lake.
"""

import os

from pydantic import SecretStr

from octo_pipeline.registry.records import Caller


def caller(token: SecretStr | None) -> Caller:
    """The caller with this token or, without one, the user this process runs as."""
    return Caller(os_user(), token.get_secret_value() if token is not None else None)


def os_user() -> str:
    """The name of the user this process runs as.

    The system is asked, not the environment: LOGNAME and USER are whatever their setter likes.
    """
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # a container's user without a name
        return f"uid-{os.geteuid()}"
