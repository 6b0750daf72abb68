"""Runs the tests that come with py-consul against rollcall.

It takes the place of the file of this name in py-consul's source, which starts Consul in Docker:
here every test has a rollcall of its own. ROLLCALL names the program. The tests themselves are
untouched, but for one thing: some point a check at port 8500, where the server is in its
container, and are given the port where it is here.

What rollcall does not have is listed with the reason, and must fail: a test that passes in spite
of its reason is an error.
"""

import collections
import json
import os
import socket
import subprocess
import time

import pytest
import requests

import consul.check

ConsulInstance = collections.namedtuple("ConsulInstance", ["container", "port", "version"])

# Tests of what rollcall does not have, by the end of their names.
ABSENT = {
    "TestConfig::test_config_entry_crud": "no configuration entries",
    "TestConfig::test_config_entry_cas": "no configuration entries",
    "TestCatalog::test_catalog_gateway_services": "no gateways",
    "TestDiscoveryChain::test_discovery_chain_get": "no service mesh",
}


def pytest_collection_modifyitems(items):
    for item in items:
        for name, reason in ABSENT.items():
            if item.nodeid.endswith(name):
                item.add_marker(pytest.mark.xfail(reason=reason, strict=True))


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture
def consul_instance(tmp_path, monkeypatch):
    port = free_port()
    settings = {
        "data_dir": str(tmp_path / "data"),
        "listen": {"http": f"127.0.0.1:{port}", "grpc": "127.0.0.1:0", "dns": "off"},
        "log": {"format": "text"},
        "checks": {"exec": "api"},
    }
    config = tmp_path / "rollcall.json"
    config.write_text(json.dumps(settings))
    with open(tmp_path / "rollcall.log", "wb") as log:
        daemon = subprocess.Popen(
            [os.environ["ROLLCALL"], "run", "--config", str(config)], stdout=log, stderr=log
        )
    try:
        yield ConsulInstance(daemon, port, wait_ready(daemon, port, monkeypatch))
    finally:
        daemon.kill()
        daemon.wait()


def wait_ready(daemon, port, monkeypatch):
    """Returns the version that the server says it has."""
    own_port(monkeypatch, port)
    for _ in range(600):
        assert daemon.poll() is None, "rollcall has ended"
        try:
            own = requests.get(f"http://127.0.0.1:{port}/v1/agent/self", timeout=2)
            return own.json()["Config"]["Version"]
        except requests.RequestException:
            time.sleep(0.05)
    raise TimeoutError("rollcall is not ready")


def own_port(monkeypatch, port):
    http = consul.check.Check.http
    monkeypatch.setattr(
        consul.check.Check,
        "http",
        classmethod(lambda _, url, *rest, **named: http(url.replace(":8500", f":{port}"), *rest, **named)),
    )


@pytest.fixture
def acl_consul_instance():
    pytest.skip("rollcall has no ACLs")


@pytest.fixture
def consul_port(consul_instance):
    return consul_instance.port, consul_instance.version
