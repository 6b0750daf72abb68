// A round of the Consul client for Node.js against the daemon at PORT:
//
//   node round.js PORT
//
// Every step prints its name when it holds; the first that does not ends the program.

"use strict";

const assert = require("node:assert/strict");
const http = require("node:http");
const { setTimeout: sleep } = require("node:timers/promises");

const Consul = require("consul");

const LIMIT = 10_000;

/** The next change that a watch tells and that fits. */
function next(watch, fits = () => true) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error("no change in time")), LIMIT);
    const settle = (how, value) => {
      clearTimeout(timer);
      watch.removeListener("change", onChange);
      watch.removeListener("error", onError);
      how(value);
    };
    const onChange = (data, response) => {
      if (fits(data)) settle(resolve, { data, response });
    };
    const onError = (error) => settle(reject, error);
    watch.on("change", onChange);
    watch.on("error", onError);
  });
}

/** Looks until something holds. */
async function until(look) {
  const end = Date.now() + LIMIT;
  for (;;) {
    const found = await look();
    if (found) return found;
    assert.ok(Date.now() < end, "in vain: " + look);
    await sleep(30);
  }
}

/** A server that answers every check. */
async function target() {
  const server = http.createServer((_, answer) => answer.end("well"));
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return server;
}

const steps = {
  async "agent: itself and its members"(consul) {
    const own = await consul.agent.self();
    assert.equal(own.Config.Datacenter, "dc1");
    const members = await consul.agent.members();
    assert.deepEqual(members.map((member) => member.Name), [own.Config.NodeName]);
    assert.match(await consul.status.leader(), /:8300$/);
    assert.deepEqual(await consul.status.peers(), [await consul.status.leader()]);
  },

  async "agent: a service with checks of several kinds"(consul) {
    const server = await target();
    const port = server.address().port;
    await consul.agent.service.register({
      name: "node-web",
      id: "node/web 1",
      tags: ["a", "b"],
      address: "127.0.0.1",
      port,
      meta: { team: "shop" },
      checks: [
        { http: `http://127.0.0.1:${port}/`, interval: "1s", timeout: "1s" },
        { tcp: `127.0.0.1:${port}`, interval: "1s" },
        { ttl: "30s", notes: "beats" },
      ],
    });
    await consul.agent.check.pass("service:node/web 1:3");
    await until(async () => {
      const entries = await consul.health.service({ service: "node-web", passing: true });
      return entries.length === 1;
    });
    const [entry] = await consul.health.service("node-web");
    assert.deepEqual(entry.Service.Tags, ["a", "b"]);
    assert.deepEqual(entry.Service.Meta, { team: "shop" });
    const states = await consul.health.checks("node-web");
    assert.deepEqual(states.map((check) => check.Status), ["passing", "passing", "passing"]);
    await consul.agent.check.fail({ id: "service:node/web 1:3", note: "no beat" });
    const checks = await consul.agent.checks();
    assert.equal(checks["service:node/web 1:3"].Output, "no beat");
    assert.equal(checks["service:node/web 1:3"].Notes, "beats");
    await consul.agent.service.maintenance({ id: "node/web 1", enable: true, reason: "disk" });
    assert.equal(
      (await consul.agent.checks())["_service_maintenance:node/web 1"].Notes,
      "disk",
    );
    await consul.agent.service.maintenance({ id: "node/web 1", enable: false });
    await consul.agent.service.deregister("node/web 1");
    assert.equal((await consul.agent.services())["node/web 1"], undefined);
    server.close();
  },

  async "agent: checks of their own, and what is refused"(consul) {
    await consul.agent.check.register({ name: "lone", ttl: "15s", id: "lone" });
    await consul.agent.check.warn("lone");
    assert.equal((await consul.agent.checks()).lone.Status, "warning");
    await consul.agent.check.deregister("lone");
    await assert.rejects(consul.agent.check.pass("lone"), (error) => {
      assert.equal(error.statusCode, 404);
      assert.match(error.response.body, /Unknown check ID "lone"/);
      return true;
    });
    await assert.rejects(consul.agent.service.register({ name: "" }), {
      message: "consul: agent.service.register: name required",
    });
  },

  async "catalog: nodes and services from elsewhere"(consul) {
    await consul.catalog.register({
      node: "node-elsewhere",
      address: "10.9.9.9",
      nodemeta: { "external-node": "true" },
      service: { service: "node-outside", port: 99 },
      check: { name: "seen", status: "passing" },
    });
    const [row] = await consul.catalog.service.nodes("node-outside");
    assert.equal(row.Address, "10.9.9.9");
    assert.equal(row.ServicePort, 99);
    const names = (await consul.catalog.node.list()).map((node) => node.Node);
    assert.ok(names.includes("node-elsewhere"));
    assert.deepEqual(await consul.catalog.datacenters(), ["dc1"]);
    assert.deepEqual((await consul.catalog.services())["node-outside"], []);
    await consul.catalog.deregister("node-elsewhere");
    assert.deepEqual(await consul.catalog.service.nodes("node-outside"), []);
  },

  async "kv: keys with every character"(consul) {
    for (const key of ["node/a/b", "node/ü ?#%&+=", "node//twice/"]) {
      assert.equal(await consul.kv.set(key, "worth"), true);
      const pair = await consul.kv.get(key);
      assert.deepEqual([pair.Key, pair.Value], [key, "worth"]);
    }
    const keys = await consul.kv.keys({ key: "node/", separator: "/" });
    assert.deepEqual(keys, ["node//", "node/a/", "node/ü ?#%&+="]);
    const all = await consul.kv.get({ key: "node/", recurse: true });
    assert.equal(all.length, 3);
    // The client makes undefined of false.
    assert.ok(!(await consul.kv.set({ key: "node/a/b", value: "no", cas: "1" })));
    const { ModifyIndex } = await consul.kv.get("node/a/b");
    assert.equal(await consul.kv.set({ key: "node/a/b", value: "yes", cas: ModifyIndex }), true);
    assert.equal(await consul.kv.get("node/none"), undefined);
    await consul.kv.del({ key: "node/", recurse: true });
    assert.equal(await consul.kv.get({ key: "node/", recurse: true }), undefined);
  },

  async "session: a lock that others cannot take"(consul) {
    const [one, two] = await Promise.all([
      consul.session.create({ name: "one", ttl: "15s", behavior: "delete", lockdelay: "0s" }),
      consul.session.create(),
    ]);
    assert.equal(await consul.kv.set({ key: "node/lock", value: "1", acquire: one.ID }), true);
    assert.ok(!(await consul.kv.set({ key: "node/lock", value: "2", acquire: two.ID })));
    assert.equal((await consul.kv.get("node/lock")).Session, one.ID);
    assert.equal((await consul.session.renew(one.ID))[0].TTL, "15s");
    await consul.session.destroy(one.ID);
    assert.equal(await consul.kv.get("node/lock"), undefined);
    assert.equal((await consul.session.get(one.ID)), undefined);
    await consul.session.destroy(two.ID);
  },

  async "txn and event"(consul) {
    const value = Buffer.from("both").toString("base64");
    const done = await consul.transaction.create([
      { KV: { Verb: "set", Key: "node/txn", Value: value } },
      { KV: { Verb: "get", Key: "node/txn" } },
    ]);
    assert.equal(done.Errors, null);
    assert.equal(done.Results[1].KV.Value, value);
    await assert.rejects(
      consul.transaction.create([{ KV: { Verb: "get", Key: "node/none" } }]),
      (error) => error.statusCode === 409,
    );
    await consul.kv.del("node/txn");
    const fired = await consul.event.fire("node-event", "payload");
    const [event] = await consul.event.list("node-event");
    assert.deepEqual([event.ID, event.Payload], [fired.ID, "payload"]);
  },

  async "watch: told of a key, of a service, and never backwards"(consul) {
    const key = consul.watch({ method: consul.kv.get, options: { key: "node/watched" } });
    const first = await next(key);
    assert.equal(first.data, undefined);
    const begun = BigInt(first.response.headers["x-consul-index"]);
    assert.ok(begun > 0n);
    const told = next(key);
    await consul.kv.set("node/watched", "now");
    const second = await told;
    assert.equal(second.data.Value, "now");
    assert.ok(BigInt(second.response.headers["x-consul-index"]) > begun);
    key.end();

    const service = consul.watch({
      method: consul.health.service,
      options: { service: "node-watched", passing: true },
    });
    assert.deepEqual((await next(service)).data, []);
    const appeared = next(service, (data) => data.length === 1);
    await consul.agent.service.register({ name: "node-watched", check: { ttl: "30s", status: "passing" } });
    await appeared;
    const gone = next(service, (data) => data.length === 0);
    await consul.agent.check.fail("service:node-watched");
    await gone;
    service.end();
    await consul.agent.service.deregister("node-watched");
    await consul.kv.del("node/watched");
  },

  async "watch: ends at a question that makes no sense"(consul) {
    const watch = consul.watch({
      method: consul.health.service,
      options: { service: "x", wait: "nonsense", timeout: 5000 },
    });
    const ended = new Promise((resolve) => watch.on("end", resolve));
    await assert.rejects(next(watch), { statusCode: 400 });
    await ended;
  },
};

async function main() {
  const consul = new Consul({ host: "127.0.0.1", port: Number(process.argv[2]) });
  for (const [name, step] of Object.entries(steps)) {
    try {
      await step(consul);
      console.log("ok", name);
    } catch (error) {
      console.log("FAIL", name, error);
      process.exitCode = 1;
    }
  }
}

main().then(() => process.exit());
