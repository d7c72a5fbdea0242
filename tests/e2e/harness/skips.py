"""The reasons for which a test may be skipped. A skip for any other reason is a failure, so that no
test stops to run unnoticed."""

import re
import shutil

REASONS = [
    r"not installed: bench/peers/run --install \w+",
    r"this machine is too slow .+",
    r"neither crun nor runc is installed",
    r"containers without root are not tried",
    r"a network namespace is needed, and only root may make one",
    r"a user namespace is needed: .*",
    r"a memory cgroup is needed.*",
    r"only root can become another user",
]
NOT_INSTALLED = re.compile(r"([\w-]+) is not installed")


def allowed(reason):
    """Whether a test may be skipped for `reason`. `./test` installs programs where it can."""
    if program := NOT_INSTALLED.fullmatch(reason):
        return shutil.which(program[1]) is None
    return any(re.fullmatch(known, reason, re.DOTALL) for known in REASONS)
