// Guards that a protocol tested on the simulated network meets nothing else on sockets, and that the twin's partitions and crashes do what they say.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { test } from "node:test";
import { MillraceError } from "#base/errors";
import type { Connection } from "./network.ts";
import { networkContract } from "./network.contract.ts";
import { type SimulatedNode, Simulation } from "./simulation.ts";
import { systemClock } from "./system-clock.ts";
import { systemNetwork } from "./system-network.ts";

networkContract("the machine", (body) => body({ server: systemNetwork, client: systemNetwork, bind: "127.0.0.1", host: "127.0.0.1", clock: systemClock }));

networkContract("simulated, two machines", async (body) => {
  const simulation = new Simulation({ seed: process.env["SEED"] ?? 1 });
  await simulation.run(async () => {
    const [server, client] = [simulation.node("server"), simulation.node("client")];
    await body({ server: server.network, client: client.network, bind: "0.0.0.0", host: "server", clock: client.clock });
  });
});

networkContract("simulated, loopback", async (body) => {
  const simulation = new Simulation({ seed: process.env["SEED"] ?? 1 });
  await simulation.run(async () => {
    const { network, clock } = simulation.node("a");
    await body({ server: network, client: network, bind: "127.0.0.1", host: "localhost", clock });
  });
});

const text = (value: string): Uint8Array => new TextEncoder().encode(value);

/** Two machines with one connection between them, from `a` to `b`. */
async function connected(seed: number, body: (simulation: Simulation, near: Connection, far: Connection, b: SimulatedNode) => Promise<void>): Promise<string> {
  const simulation = new Simulation({ seed });
  await simulation.run(async () => {
    const [a, b] = [simulation.node("a"), simulation.node("b")];
    let far: Connection | undefined;
    await b.network.listen({ host: "0.0.0.0", port: 7000 }, (connection) => (far = connection));
    const near = await a.network.connect({ host: "b", port: 7000 });
    await body(simulation, near, far!, b);
  });
  return simulation.traceHash;
}

const timedOut = (thrown: unknown): boolean => thrown instanceof MillraceError && thrown.code === "timeout";

test("an unanswered connect ends by the caller's deadline: a machine without power", async () => {
  const simulation = new Simulation({ seed: 1 });
  await simulation.run(async () => {
    const a = simulation.node("a");
    simulation.node("b").crash("power");
    const start = a.clock.monotonicMs();
    await assert.rejects(a.network.connect({ host: "b", port: 1 }, { timeoutMs: 700 }), timedOut);
    assert.ok(a.clock.monotonicMs() - start >= 700);
  });
});

test("an unanswered connect ends by the caller's deadline: a blocked process with a full backlog", async (context) => {
  const child = spawn(
    process.execPath,
    [
      "-e",
      `const s = require("net").createServer().listen(0, "127.0.0.1", 1, () => { require("fs").writeSync(1, String(s.address().port)); Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0); })`,
    ],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  try {
    const [port] = (await once(child.stdout, "data")) as [Buffer];
    const address = { host: "127.0.0.1", port: Number(port) };
    const answers = await Promise.allSettled(Array.from({ length: 8 }, () => systemNetwork.connect(address, { timeoutMs: 300 })));
    for (const answer of answers) if (answer.status === "fulfilled") answer.value.close();
    const refused = answers.filter((answer) => answer.status === "rejected");
    if (refused.length === 0) return context.skip("this system answers connections beyond the backlog");
    for (const { reason } of refused) assert.ok(timedOut(reason), String(reason));
  } finally {
    child.kill("SIGKILL");
  }
});

test("a partition holds bytes and connections; healing lets them through in order", async () => {
  for (let seed = 0; seed < 20; seed++) {
    await connected(seed, async (simulation, near, far) => {
      await near.write(text("1"));
      simulation.internet.partition("a", "b");
      for (const digit of "23456789") await near.write(text(digit));
      let arrived = "";
      const reading = (async () => {
        while (arrived.length < 9) arrived += new TextDecoder().decode(await far.read());
      })();
      await simulation.clock.sleep(5000);
      assert.ok("1".startsWith(arrived), `arrived through a partition: ${arrived}`);
      await assert.rejects(simulation.node("a").network.connect({ host: "b", port: 7000 }, { timeoutMs: 100 }), /no answer/);
      simulation.internet.heal("b", "a");
      await reading;
      assert.equal(arrived, "123456789");
      (await simulation.node("a").network.connect({ host: "b", port: 7000 })).close();
    });
  }
});

test("a long partition breaks the connection on both sides: one read throws, then it is over", async () => {
  await connected(1, async (simulation, near, far) => {
    simulation.internet.partition("a", "b");
    await near.write(text("lost"));
    const unavailable = (thrown: unknown): boolean => thrown instanceof MillraceError && thrown.code === "unavailable";
    await Promise.all([assert.rejects(near.read(), unavailable), assert.rejects(far.read(), unavailable)]);
    assert.equal(await near.read(), undefined);
    await assert.rejects(near.write(text("x")), unavailable);
  });
});

test("a killed process ends its connections at once, a power cut only after a silence", async () => {
  for (const how of ["kill", "power"] as const) {
    const waits: number[] = [];
    for (let seed = 0; seed < 20; seed++) {
      await connected(seed, async (simulation, near, far, b) => {
        await far.write(text("bye"));
        b.crash(how);
        const start = simulation.clock.monotonicMs();
        let heard = "";
        try {
          for (let chunk = await near.read(); chunk !== undefined; chunk = await near.read()) heard += new TextDecoder().decode(chunk);
        } catch (thrown) {
          assert.ok(thrown instanceof MillraceError && thrown.code === "unavailable");
        }
        assert.equal(heard, "bye", "what was handed over still arrives");
        waits.push(simulation.clock.monotonicMs() - start);
      });
    }
    const longest = Math.max(...waits);
    if (how === "kill") assert.ok(longest < 100, `${longest} ms`);
    else assert.ok(longest > 1000 && longest <= 20_100, `${longest} ms`);
  }
});

test("after a crash the port is free for the next incarnation, and refused before it listens", async () => {
  await connected(3, async (simulation, _, __, b) => {
    b.crash("kill");
    const a = simulation.node("a");
    await assert.rejects(a.network.connect({ host: "b", port: 7000 }), /ECONNREFUSED/);
    const again = simulation.node("b");
    await again.network.listen({ host: "b", port: 7000 }, (connection) => connection.close());
    const connection = await a.network.connect({ host: "b", port: 7000 });
    assert.equal(await connection.read(), undefined);
  });
});

test("resets break connections, by order and by chance", async () => {
  await connected(1, async (simulation, near, far) => {
    simulation.internet.reset("b", "a");
    await assert.rejects(near.read(), /ECONNRESET/);
    await assert.rejects(far.read(), /ECONNRESET/);
  });
  await connected(1, async (simulation, near) => {
    simulation.internet.resetChance = 0.05;
    await assert.rejects(async () => {
      for (let i = 0; i < 1000; i++) {
        await near.write(text("x"));
        await simulation.clock.sleep(10);
      }
    }, /ECONNRESET/);
  });
});

test("one write arrives in several chunks, several writes in one", async () => {
  const shapes = new Set<number>();
  for (let seed = 0; seed < 30; seed++) {
    await connected(seed, async (simulation, near, far) => {
      for (let i = 0; i < 3; i++) await near.write(text("abcdef"));
      near.close();
      await simulation.clock.sleep(500);
      let chunks = 0;
      while ((await far.read()) !== undefined) chunks += 1;
      shapes.add(chunks);
    });
  }
  assert.ok(shapes.has(1) && shapes.has(3) && Math.max(...shapes) > 3, JSON.stringify([...shapes]));
});

test("a simulation with a network is repeated by its seed", async () => {
  const hashOf = (seed: number): Promise<string> =>
    connected(seed, async (simulation, near, far) => {
      for (let i = 0; i < 50; i++) {
        await near.write(text(`message ${i}`));
        await simulation.clock.sleep(simulation.random.below(3));
      }
      near.close();
      while ((await far.read()) !== undefined);
    });
  assert.equal(await hashOf(5), await hashOf(5));
  assert.notEqual(await hashOf(5), await hashOf(6));
});

test("a machine's processes tell which of its incarnations are gone", async () => {
  const simulation = new Simulation({ seed: 1 });
  await simulation.run(async () => {
    const [first, other] = [simulation.node("a").processes, simulation.node("b").processes];
    assert.equal(first.isGone(first.self), false);
    simulation.node("a").crash("kill");
    const second = simulation.node("a").processes;
    assert.equal(second.isGone(first.self), true);
    assert.equal(second.isGone(second.self), false);
    assert.equal(other.isGone(first.self), false, "another machine cannot judge");
  });
});
