"""The key of the HTTP API, and requests that need none."""

import httpx
import pytest

SERVER = {"config": '[api]\nkeys = ["first-of-the-keys", "second-of-the-keys"]\n'}

PUBLISH = {"channel": "keyed", "data": 1}


@pytest.mark.parametrize("options", [
    {"headers": {"X-API-Key": "first-of-the-keys"}},
    {"headers": {"X-API-Key": "second-of-the-keys"}},
    {"headers": {"Authorization": "apikey first-of-the-keys"}},
    {"params": {"api_key": "first-of-the-keys"}},
])
def test_a_call_with_a_key_is_served(server, options):
    response = server.api("publish", PUBLISH, **options)
    assert response.status_code == 200 and "result" in response.json()


@pytest.mark.parametrize("options", [
    {},
    {"headers": {"X-API-Key": ""}},
    {"headers": {"X-API-Key": "first-of-the-key"}},
    {"headers": {"X-API-Key": "first-of-the-keys-"}},
    {"headers": {"Authorization": "Bearer first-of-the-keys"}},
    {"headers": {"Authorization": "apikey wrong"}},
    {"params": {"api_key": "wrong"}},
])
@pytest.mark.parametrize("method", ["publish", "info", "batch"])
def test_a_call_without_one_is_401_with_an_empty_body(server, options, method):
    response = server.api(method, PUBLISH, **options)
    assert (response.status_code, response.content) == (401, b"")


def test_probes_and_metrics_need_no_key(server):
    for path in ("/live", "/ready", "/metrics"):
        assert httpx.get(server.api_url + path, trust_env=False).status_code == 200


def test_keys_are_not_told_in_the_log(server):
    assert "of-the-keys" not in server.log()
