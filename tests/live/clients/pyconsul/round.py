"""A round of py-consul, synchronous and asynchronous, against a fresh daemon at PORT.

    round.py PORT              goes through all steps; the daemon is left stopped by the last one
    round.py PORT --hold ID    takes the lock with a session, says so, waits for its input to end

Every step prints its name when it holds; one that does not keeps none of the others from being
tried. What py-consul's own tests demand of a server is stated here once more, one thing after the
other, so that a failure says what is wrong and not only that something is.
"""

import asyncio
import base64
import http.server
import struct
import subprocess
import sys
import threading
import time
import traceback

import consul
import consul.aio
from consul.check import Check

PORT = int(sys.argv[1])
STEPS = []


def step(function):
    STEPS.append(function)
    return function


def refuses(function, *arguments, kind=consul.ConsulException, **named):
    """The error with which a call fails."""
    try:
        answer = function(*arguments, **named)
    except kind as error:
        return str(error)
    raise AssertionError(f"{function.__qualname__}{arguments} is answered with {answer!r}")


def until(look, limit=10):
    end = time.monotonic() + limit
    while not (found := look()):
        assert time.monotonic() < end, "in vain"
        time.sleep(0.02)
    return found


def equal(got, wanted):
    assert got == wanted, f"\n   got {got!r}\nwanted {wanted!r}"


class Target(http.server.BaseHTTPRequestHandler):
    """Answers checks."""

    def do_GET(self):
        self.send_response(int(self.path.strip("/") or 200))
        self.end_headers()
        self.wfile.write(b"well")

    def log_message(self, *_):
        pass


def target():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Target)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


# --- A fresh daemon -----------------------------------------------------------------------


@step
def a_fresh_agent_has_nothing_and_the_catalog_only_itself(c):
    equal(c.agent.services(), {})
    equal(c.agent.checks(), {})
    equal(c.catalog.services()[1], {"consul": []})
    equal(len(c.catalog.nodes()[1]), 1)
    (check,) = c.health.state("any")[1]
    equal((check["CheckID"], check["ServiceID"], check["Status"]), ("serfHealth", "", "passing"))
    equal(c.session.list()[1], [])
    equal(c.event.list()[1], [])
    equal(c.catalog.datacenters(), ["dc1"])


@step
def the_agent_tells_of_itself(c):
    own = c.agent.self()
    equal(set(own), {"Config", "DebugConfig", "Coord", "Member", "Stats", "Meta", "xDS"})
    assert all(isinstance(part, dict) for part in own.values())
    version = tuple(int(part) for part in own["Config"]["Version"].split("+")[0].split(".")[:2])
    assert version >= (1, 12), version
    members = c.agent.members()
    assert own["Member"] in members
    for member in members:
        equal(member["Status"], 1)
    for member in c.agent.members(wan=True):
        assert "dc1" in member["Name"]
    leader = own["Stats"]["consul"]["leader_addr"]
    assert leader.endswith(":8300")
    equal(c.status.leader(), leader)
    assert leader in c.status.peers()


@step
def the_own_node_is_stable(c):
    (before,) = c.catalog.nodes()[1]
    c.agent.service.register("stable", check=Check.ttl("10s"))
    c.agent.check.ttl_pass("service:stable")
    c.catalog.register("stable-other", "10.0.0.9")
    nodes = c.catalog.nodes()[1]
    nodes.remove(before)
    equal([node["Node"] for node in nodes], ["stable-other"])
    c.catalog.deregister("stable-other")
    c.agent.service.deregister("stable")
    equal(c.catalog.nodes()[1], [before])


# --- Agent --------------------------------------------------------------------------------


@step
def a_plain_service_has_exactly_these_fields(c):
    assert c.agent.service.register("foo") is True
    equal(
        c.agent.services(),
        {
            "foo": {
                "Address": "",
                "Datacenter": "dc1",
                "EnableTagOverride": False,
                "ID": "foo",
                "Meta": {},
                "Port": 0,
                "Service": "foo",
                "Tags": [],
                "Weights": {"Passing": 1, "Warning": 1},
            }
        },
    )
    assert c.agent.service.deregister("foo") is True
    equal(c.agent.services(), {})


@step
def services_keep_what_they_say_of_themselves(c):
    addresses = {"lan": {"address": "10.10.10.1", "port": 8080}}
    c.agent.service.register(
        "kept",
        service_id="kept#127.0.0.1#1",
        address="10.10.10.1",
        port=80,
        tags=["a", "b"],
        meta={"team": "shop"},
        weights={"Passing": 3, "Warning": 1},
        enable_tag_override=True,
        tagged_addresses=addresses,
    )
    kept = c.agent.services()["kept#127.0.0.1#1"]
    equal((kept["Address"], kept["Port"], kept["Tags"]), ("10.10.10.1", 80, ["a", "b"]))
    equal((kept["Meta"], kept["Weights"]), ({"team": "shop"}, {"Passing": 3, "Warning": 1}))
    assert kept["EnableTagOverride"] is True
    equal(kept["TaggedAddresses"]["lan"], {"Address": "10.10.10.1", "Port": 8080})
    (entry,) = c.health.service("kept", tag="b")[1]
    equal(entry["Service"]["ID"], "kept#127.0.0.1#1")
    (row,) = c.catalog.service("kept")[1]
    equal((row["ServiceAddress"], row["ServicePort"]), ("10.10.10.1", 80))
    c.agent.service.deregister("kept#127.0.0.1#1")
    equal(c.health.service("kept")[1], [])


@step
def tagged_addresses_are_exactly_those_given_if_there_is_no_address(c):
    given = {"lan": {"address": "10.1.1.1", "port": 1}, "wan": {"address": "10.1.1.2", "port": 2}}
    shown = {"lan": {"Address": "10.1.1.1", "Port": 1}, "wan": {"Address": "10.1.1.2", "Port": 2}}
    c.agent.service.register("tagged", tagged_addresses=given)
    equal(c.agent.services()["tagged"]["TaggedAddresses"], shown)
    c.agent.service.deregister("tagged")


@step
def proxies_are_kept_and_sidecars_go_with_their_parents(c):
    c.agent.service.register(
        "proxy",
        port=21000,
        kind="connect-proxy",
        proxy={"DestinationServiceName": "web", "LocalServicePort": 8080},
        locality={"Region": "us-west-1", "Zone": "us-west-1a"},
    )
    proxy = c.agent.services()["proxy"]
    equal(proxy["Kind"], "connect-proxy")
    equal(proxy["Proxy"]["DestinationServiceName"], "web")
    equal(proxy["Locality"], {"Region": "us-west-1", "Zone": "us-west-1a"})
    c.agent.service.deregister("proxy")
    c.agent.service.register("parent", connect={"sidecar_service": {}})
    equal(set(c.agent.services()), {"parent", "parent-sidecar-proxy"})
    c.agent.service.deregister("parent")
    equal(c.agent.services(), {})


@step
def checks_of_each_kind_are_taken_and_named(c):
    url = target()
    port = url.rsplit(":", 1)[1]
    c.agent.service.register(
        "kinds",
        port=int(port),
        check=Check.http(url, "1s", timeout="1s"),
        extra_checks=[
            Check.tcp("127.0.0.1", int(port), "1s"),
            Check.ttl("30s"),
            Check.http(url + "/429", "1s"),
            Check.http(url + "/500", "1s", deregister="10m"),
        ],
    )
    c.agent.check.ttl_pass("service:kinds:3")
    wanted = ["passing", "passing", "passing", "warning", "critical"]
    first = c.health.checks("kinds")[1]
    equal([check["CheckID"] for check in first], [f"service:kinds:{n}" for n in range(1, 6)])
    until(lambda: [check["Status"] for check in c.health.checks("kinds")[1]] == wanted)
    checks = c.health.checks("kinds")[1]
    equal([check["Type"] for check in checks], ["http", "tcp", "ttl", "http", "http"])
    assert "HTTP GET" in checks[0]["Output"], checks[0]
    assert "Success" in checks[1]["Output"], checks[1]
    c.agent.service.deregister("kinds")


@step
def a_check_each_second_passes_in_time(c):
    url = target()
    began = time.monotonic()
    c.agent.check.register("soon", Check.http(url, "1s"))
    c.agent.service.register(
        "threefold",
        check=Check.http(url, "1s"),
        extra_checks=[Check.http(url, "2s"), Check.http(url, "3s")],
    )
    time.sleep(max(0, began + 1.5 - time.monotonic()))
    equal(c.agent.checks()["soon"]["Status"], "passing")
    time.sleep(max(0, began + 3.7 - time.monotonic()))
    equal([check["Status"] for check in c.health.checks("threefold")[1]], ["passing"] * 3)
    c.agent.check.deregister("soon")
    c.agent.service.deregister("threefold")


@step
def a_ttl_ends_within_20_ms(c):
    c.agent.check.register("beat", Check.ttl("100ms"), notes="foo")
    equal(c.agent.checks()["beat"]["Notes"], "foo")
    for tell, status in (("warn", "warning"), ("fail", "critical"), ("pass", "passing")):
        assert getattr(c.agent.check, f"ttl_{tell}")("beat", notes=f"told {tell}") is True
        check = c.agent.checks()["beat"]
        equal((check["Status"], check["Output"]), (status, f"told {tell}"))
    time.sleep(0.12)
    check = c.agent.checks()["beat"]
    equal(check["Status"], "critical")
    assert check["Output"].startswith("TTL expired"), check
    assert c.agent.check.deregister("beat") is True


@step
def what_is_not_there_is_false(c):
    assert c.agent.check.deregister("none") is False
    assert c.agent.check.ttl_pass("none") is False
    assert c.agent.service.deregister("none") is False
    assert not c.agent.check.register("foo", Check.ttl("100ms"), service_id="none")
    equal(c.agent.checks(), {})


@step
def maintenance_of_a_service_and_of_the_node(c):
    c.agent.service.register("maintained", check=Check.ttl("10s"))
    c.agent.service.maintenance("maintained", "true", "test")
    equal(c.agent.checks()["_service_maintenance:maintained"]["Notes"], "test")
    equal(c.health.service("maintained", passing=True)[1], [])
    c.agent.service.maintenance("maintained", "false")
    assert "_service_maintenance:maintained" not in c.agent.checks()
    c.agent.maintenance("true", "all")
    equal(c.agent.checks()["_node_maintenance"]["Notes"], "all")
    c.agent.maintenance("false")
    assert "_node_maintenance" not in c.agent.checks()
    c.agent.service.deregister("maintained")


@step
def the_rest_of_the_agent(c):
    assert c.agent.reload() is True
    metrics = c.agent.metrics()
    assert "Timestamp" in metrics
    assert "Gauges" in metrics
    assert isinstance(c.agent.metrics(format_prometheus=True), str)
    refuses(c.agent.force_leave, "nonexistent-node", prune=True)
    refuses(c.agent.monitor, loglevel="none", kind=consul.exceptions.BadRequest)


# --- Catalog and health -------------------------------------------------------------------


@step
def health_tells_of_heartbeats_by_service_and_by_state(c):
    c.agent.service.register("h", service_id="h:1", check=Check.ttl("10s"), tags=["tag:h:1"])
    c.agent.service.register("h", service_id="h:2", check=Check.ttl("10s"))
    ids = lambda entries: [entry["Service"]["ID"] for entry in entries[1]]  # noqa: E731
    equal(ids(c.health.service("h")), ["h:1", "h:2"])
    equal(ids(c.health.service("h", passing=True)), [])
    c.agent.check.ttl_pass("service:h:1")
    equal(ids(c.health.service("h", passing=True)), ["h:1"])
    equal(ids(c.health.service("h", tag="tag:h:1")), ["h:1"])
    equal({check["ServiceID"] for check in c.health.state("passing")[1]}, {"", "h:1"})
    equal([check["CheckID"] for check in c.health.checks("h")[1]], ["service:h:1", "service:h:2"])
    own = c.agent.self()["Config"]["NodeName"]
    assert own in [check["Node"] for check in c.health.node(own)[1]]
    equal(ids(c.health.service("h", filter_expr='"tag:h:1" in Service.Tags')), ["h:1"])
    equal(ids(c.health.service("h", filter_expr='"none" in Service.Tags')), [])
    found = c.health.state("passing", filter_expr='ServiceID == "h:1"')[1]
    equal([check["ServiceID"] for check in found], ["h:1"])
    equal(c.health.service("h", peer="elsewhere")[1], [])
    equal(ids(c.health.service("h", merge_central_config=True)), ["h:1", "h:2"])
    equal(c.health.connect("h")[1], [])
    equal(c.health.ingress("h", filter_expr="Node.Node != `` ")[1], [])
    equal(c.health.node(own, filter_expr='Node == "none"')[1], [])
    assert isinstance(c.agent.checks(filter_expr="Status == `passing`"), dict)
    equal(set(c.agent.services(filter_expr='"tag:h:1" in Tags')), {"h:1"})
    for service in ("h:1", "h:2"):
        c.agent.service.deregister(service)
    equal([check["ServiceID"] for check in c.health.state("any")[1]], [""])


@step
def the_catalog_takes_what_others_tell(c):
    n1 = ("n1", "10.1.10.11")
    assert c.catalog.register(*n1, service={"service": "s1"}, check={"name": "c1"}) is True
    assert c.catalog.register(*n1, service={"service": "s2"}) is True
    other = {"service": "s1", "tags": ["master"]}
    assert c.catalog.register("n2", "10.1.10.12", service=other) is True
    equal(c.catalog.services()[1], {"s1": ["master"], "s2": [], "consul": []})
    equal(c.catalog.services(filter_expr='"master" in ServiceTags')[1], {"s1": ["master"]})
    equal({row["Node"] for row in c.catalog.service("s1")[1]}, {"n1", "n2"})
    equal([row["Node"] for row in c.catalog.service("s1", tag="master")[1]], ["n2"])
    equal(set(c.catalog.node("n1")[1]["Services"]), {"s1", "s2"})
    equal(c.catalog.node("n1", filter_expr='Service == "none"')[1]["Services"], {})
    equal(c.catalog.node("n3")[1], None)
    equal([n["Node"] for n in c.catalog.nodes(filter_expr='Node == "n2"')[1]], ["n2"])
    equal(c.catalog.connect("s1")[1], [])
    equal(c.catalog.gateway_services("none"), [])
    equal(c.agent.services(), {})
    assert c.catalog.deregister("n1", check_id="c1") is True
    assert c.catalog.deregister("n2", service_id="s1") is True
    equal({row["Node"] for row in c.catalog.service("s1")[1]}, {"n1"})
    lan = {"lan": "10.1.10.11", "wan": "10.1.10.21"}
    c.catalog.register(*n1, tagged_addresses=lan)
    equal(c.catalog.node("n1")[1]["Node"]["TaggedAddresses"], lan)
    for node in ("n1", "n2"):
        assert c.catalog.deregister(node) is True
    equal(len(c.catalog.nodes()[1]), 1)


@step
def what_cannot_be_understood_is_an_error(c):
    for call in (c.catalog.nodes, c.catalog.services, c.session.list):
        refuses(call, dc="dc2")
    refuses(c.catalog.register, "foo", "10.1.10.11", dc="dc2")
    refuses(c.catalog.nodes, filter_expr="not a valid expression((")
    error = refuses(c.agent.token.set_default, "x", kind=consul.exceptions.ACLDisabled)
    assert "ACL support disabled" in error, error
    refuses(c.acl.token.list, kind=consul.exceptions.ACLDisabled)


@step
def a_blocked_client_is_woken_by_its_service_only(c):
    c.agent.service.register("woken", check=Check.ttl("10s"))
    index, _ = c.health.service("woken", passing=True)
    told = []

    def wait():
        began = time.monotonic()
        told.append(c.health.service("woken", passing=True, index=index, wait="5s")[1])
        told.append(time.monotonic() - began)

    waiter = threading.Thread(target=wait)
    waiter.start()
    time.sleep(0.1)
    c.agent.service.register("unrelated")
    time.sleep(0.3)
    equal(told, [])
    c.agent.check.ttl_pass("service:woken")
    waiter.join()
    equal(len(told[0]), 1)
    assert told[1] < 3, told[1]
    for service in ("woken", "unrelated"):
        c.agent.service.deregister(service)


# --- KV, sessions, transactions, events ---------------------------------------------------


@step
def kv_keeps_bytes_flags_and_nothing(c):
    equal(c.kv.get("foo")[1], None)
    for given, kept in (("bar", b"bar"), (struct.pack("i", 1000),) * 2, ("", None), (None, None)):
        assert c.kv.put("foo", given) is True
        equal(c.kv.get("foo")[1]["Value"], kept)
    equal(c.kv.get("foo")[1]["Flags"], 0)
    c.kv.put("foo", "bar", flags=50)
    equal(c.kv.get("foo")[1]["Flags"], 50)
    index, _ = c.kv.get("foo")
    equal(c.kv.get("foo", index=index, wait="20ms")[0], index)
    c.kv.delete("foo")


@step
def kv_compares_before_it_writes_and_deletes(c):
    assert c.kv.put("foo", "bar", cas=50) is False
    assert c.kv.put("foo", "bar", cas=0) is True
    index, data = c.kv.get("foo")
    assert c.kv.put("foo", "bar2", cas=data["ModifyIndex"] - 1) is False
    assert c.kv.delete("foo", cas=data["ModifyIndex"] - 1) is False
    equal(c.kv.get("foo"), (index, data))
    assert c.kv.put("foo", "bar2", cas=data["ModifyIndex"]) is True
    assert c.kv.delete("foo", cas=c.kv.get("foo")[1]["ModifyIndex"]) is True
    equal(c.kv.get("foo")[1], None)


@step
def kv_lists_prefixes_and_keys(c):
    equal(c.kv.get("foo/", recurse=True)[1], None)
    for key in ("foo/", "foo/bar1", "foo/bar2", "foo/deep/er"):
        c.kv.put(key, key[4:] or None)
    rows = c.kv.get("foo/", recurse=True)[1]
    equal([row["Key"] for row in rows], ["foo/", "foo/bar1", "foo/bar2", "foo/deep/er"])
    keys = c.kv.get("foo/", keys=True, separator="/")[1]
    equal(keys, ["foo/", "foo/bar1", "foo/bar2", "foo/deep/"])
    assert c.kv.delete("foo", recurse=True) is True
    equal(c.kv.get("foo", recurse=True)[1], None)


@step
def sessions_hold_keys(c):
    refuses(c.kv.put, "foo", "bar", acquire="foo")
    assert "Missing node registration" in refuses(c.session.create, node="n2")
    s1, s2 = c.session.create("one"), c.session.create(lock_delay=0)
    equal(sorted(s["Name"] for s in c.session.list()[1]), ["", "one"])
    node = c.session.info(s1)[1]["Node"]
    equal(len(c.session.node(node)[1]), 2)
    equal(c.session.info("1" * 36)[1], None)
    assert c.kv.put("foo", "1", acquire=s1) is True
    assert c.kv.put("foo", "2", acquire=s2) is False
    assert c.kv.put("foo", "1", acquire=s1) is True
    assert c.kv.put("foo", "1", release="foo") is False
    assert c.kv.put("foo", "2", release=s2) is False
    assert c.kv.put("foo", "2", release=s1) is True
    assert c.kv.put("foo", "3", acquire=s2) is True
    c.session.destroy(s1)
    c.session.destroy(s2)
    assert "Session" not in c.kv.get("foo")[1]
    c.kv.delete("foo")
    refuses(c.session.renew, "1" * 36, kind=consul.NotFound)
    s = c.session.create(behavior="delete", ttl=20)
    session = c.session.renew(s)
    equal((session["Behavior"], session["TTL"]), ("delete", "20s"))
    c.kv.put("gone", "1", acquire=s)
    c.session.destroy(s)
    equal(c.kv.get("gone")[1], None)


@step
def a_lock_passes_from_one_process_to_another(c):
    def holder():
        session = c.session.create(lock_delay=0)
        process = subprocess.Popen(
            [sys.executable, __file__, str(PORT), "--hold", session],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        return session, process

    first, one = holder()
    equal(one.stdout.readline(), b"held\n")
    second, two = holder()
    time.sleep(0.3)
    equal(c.kv.get("process/lock")[1]["Session"], first)
    one.communicate()
    equal(two.stdout.readline(), b"held\n")
    equal(c.kv.get("process/lock")[1]["Session"], second)
    # Who loses its session loses the lock.
    c.session.destroy(second)
    assert "Session" not in c.kv.get("process/lock")[1]
    two.communicate()
    c.session.destroy(first)
    c.kv.delete("process/lock")


def hold(c, session):
    """Takes the lock as soon as it is free, and gives it back when the input ends."""
    index = None
    while not c.kv.put("process/lock", "", acquire=session):
        index, row = c.kv.get("process/lock", index=index, wait="5s")
        if row and "Session" not in row:
            index = None
    print("held", flush=True)
    sys.stdin.read()
    c.kv.put("process/lock", "", release=session)


@step
def transactions_and_events(c):
    value = base64.b64encode(b"1").decode()
    equal(c.txn.put([{"KV": {"Verb": "set", "Key": "t", "Value": value}}])["Errors"], None)
    done = c.txn.put([{"KV": {"Verb": "get", "Key": "t"}}])
    equal(done["Results"][0]["KV"]["Value"], value)
    c.kv.delete("t")
    assert c.event.fire("fooname", "foobody", dc="dc1")
    equal(c.event.list(name="othername")[1], [])
    for filters in ({}, {"node": "x"}, {"service": "x"}, {"tag": "x"}):
        events = c.event.list(name="fooname", **filters)[1]
        equal([(e["Name"], e["Payload"]) for e in events], [("fooname", b"foobody")])


# --- Stubs --------------------------------------------------------------------------------


@step
def operators_find_one_healthy_server(c):
    config = c.operator.raft_config()
    equal(config["Index"], 0)
    equal([(s["Leader"], s["Voter"]) for s in config["Servers"]], [(True, True)])
    pilot = c.operator.autopilot_configuration()
    assert pilot["CleanupDeadServers"] is True
    update = c.operator.update_autopilot_configuration
    assert update(cleanup_dead_servers=False, cas=pilot["ModifyIndex"] + 1000) is False
    assert update(cleanup_dead_servers=False) is True
    assert c.operator.autopilot_configuration()["CleanupDeadServers"] is False
    assert update(cleanup_dead_servers=True) is True
    health = c.operator.autopilot_health()
    equal((health["Healthy"], len(health["Servers"])), (True, 1))
    assert c.operator.usage()["Usage"]["dc1"]["Nodes"] >= 1
    for call in (c.operator.keyring_list, c.operator.raft_transfer_leader):
        refuses(call)
    refuses(c.operator.raft_remove_peer, address="10.255.255.1:8300")
    equal(set(c.coordinate.datacenters()[0]), {"Datacenter", "Coordinates", "AreaID"})
    c.coordinate.nodes()


# --- The asynchronous client --------------------------------------------------------------


@step
def asynchronous_clients_wait_together(_):
    asyncio.run(wait_together())


async def wait_together():
    c = consul.aio.Consul(port=PORT)
    try:
        await c.kv.put("index", "bump")
        key, _ = await c.kv.get("waited")
        service, _ = await c.health.service("waited")
        sessions, _ = await c.session.list()
        waiting = asyncio.gather(
            c.kv.get("waited", index=key),
            c.health.service("waited", index=service),
            c.session.list(index=sessions),
        )
        await asyncio.sleep(0.05)
        # What changes elsewhere wakes nobody: a client told of nothing would stumble over it.
        await c.kv.put("elsewhere", "x")
        await c.agent.service.register("elsewhere")
        await asyncio.sleep(0.1)
        assert not waiting.done()
        await c.kv.put("waited", "now")
        await c.agent.service.register("waited")
        session = await c.session.create()
        (_, row), (_, entries), (_, listed) = await asyncio.wait_for(waiting, 5)
        equal(row["Value"], b"now")
        equal([entry["Service"]["ID"] for entry in entries], ["waited"])
        equal([one["ID"] for one in listed], [session])
        await c.session.destroy(session)
        for service in ("waited", "elsewhere"):
            await c.agent.service.deregister(service)
        await c.kv.delete("waited")
    finally:
        await c.close()


# --- The end ------------------------------------------------------------------------------


@step
def leaving_ends_the_daemon_within_5_s(c):
    assert c.agent.leave() is True

    def gone():
        try:
            c.status.leader()
        except OSError:
            return True
        return False

    until(gone, 5)


def main():
    c = consul.Consul(port=PORT)
    if "--hold" in sys.argv:
        return hold(c, sys.argv[-1])
    failed = 0
    for function in STEPS:
        name = function.__name__.replace("_", " ")
        try:
            function(c)
            print("ok", name)
        except Exception:
            failed += 1
            print("FAIL", name)
            traceback.print_exc(file=sys.stdout)
    return failed and 1


sys.exit(main())
