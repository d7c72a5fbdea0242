"""Parts of configurations that several modules of tests need."""

import json

# Clients that may say as much as a test wants them to.
FRAMES = """
[client]
frames_per_second_max = 1000000
"""


def namespace(name, **settings):
    """A namespace of channels with these settings."""
    # What JSON writes of texts, numbers and booleans is TOML, too.
    lines = [f"{key} = {json.dumps(value)}" for key, value in {"name": name, **settings}.items()]
    return "\n".join(["[[channel.namespaces]]", *lines, ""])


def recovered(name, history_size, history_ttl="60s", **settings):
    """A namespace of channels that are recovered from a history of that size."""
    return namespace(name, history_size=history_size, history_ttl=history_ttl,
                     force_recovery=True, **settings)
