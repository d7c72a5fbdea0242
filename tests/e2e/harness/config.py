"""Parts of configurations that several test modules need."""

import json

# Clients may send as many frames as a test needs.
FRAMES = """
[client]
frames_per_second_max = 1000000
"""


def namespace(name, **settings):
    """Returns a namespace of channels with these settings."""
    # JSON of strings, numbers and booleans is valid TOML, too.
    lines = [f"{key} = {json.dumps(value)}" for key, value in {"name": name, **settings}.items()]
    return "\n".join(["[[channel.namespaces]]", *lines, ""])


def recovered(name, history_size, history_ttl="60s", **settings):
    """Returns a namespace of channels that are recovered from a history of this size."""
    return namespace(name, history_size=history_size, history_ttl=history_ttl,
                     force_recovery=True, **settings)
