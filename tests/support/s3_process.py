"""The strict S3 emulator as a process of its own: ``python -m tests.support.s3_process PORT``."""

import sys

from tests.emulators.aws import strict_server

if __name__ == "__main__":
    strict_server(int(sys.argv[1])).serve_forever()
