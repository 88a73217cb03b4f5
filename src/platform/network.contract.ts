// What every `Network` must do; run against the machine's sockets and their simulated twin.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { MillraceError } from "#base/errors";
import { Prng } from "#base/prng";
import type { Clock } from "./clock.ts";
import type { Connection, FlowReceiver, Listener, Network } from "./network.ts";
import { flowOf } from "./network-flow.ts";

export interface NetworkUnderTest {
  /** Where the tests listen. */
  readonly server: Network;
  /** Where they connect from. */
  readonly client: Network;
  /** Host to listen on, and to connect to. */
  readonly bind: string;
  readonly host: string;
  readonly clock: Clock;
}

const refusal = (code: string) => (thrown: unknown) => (thrown as MillraceError).name === "MillraceError" && (thrown as MillraceError).code === code;
const text = (value: string): Uint8Array => new TextEncoder().encode(value);

async function readAll(connection: Connection): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for (let chunk = await connection.read(); chunk !== undefined; chunk = await connection.read()) chunks.push(chunk);
  return Buffer.concat(chunks);
}

async function readSome(connection: Connection, bytes: number): Promise<string> {
  let found = "";
  while (found.length < bytes) found += new TextDecoder().decode(await connection.read());
  return found;
}

export function networkContract(engine: string, within: (body: (under: NetworkUnderTest) => Promise<void>) => Promise<void>): void {
  /** A listener, and a way to get both ends of a new connection to it. */
  type Pair = () => Promise<[client: Connection, server: Connection]>;
  const check = (name: string, body: (pair: Pair, under: NetworkUnderTest, listener: Listener) => Promise<void>): void => {
    test(`network contract, ${engine}: ${name}`, () =>
      within(async (under) => {
        const accepted: Connection[] = [];
        let wake: (() => void) | undefined;
        const listener = await under.server.listen({ host: under.bind, port: 0 }, (connection) => {
          accepted.push(connection);
          wake?.();
        });
        const opened: Connection[] = [];
        const pair: Pair = async () => {
          const client = await under.client.connect({ host: under.host, port: listener.port });
          if (accepted.length === 0) await new Promise<void>((resolve) => (wake = resolve));
          const server = accepted.shift()!;
          opened.push(client, server);
          return [client, server];
        };
        try {
          await body(pair, under, listener);
        } finally {
          for (const connection of opened) connection.close();
          await listener.close();
        }
      }));
  };

  check("bytes arrive in order in both directions, whatever the chunks", async (pair) => {
    const [client, server] = await pair();
    const random = new Prng(1);
    const [up, down] = [random.bytes(new Uint8Array(300_000)), random.bytes(new Uint8Array(200_000))];
    const send = async (connection: Connection, bytes: Uint8Array): Promise<void> => {
      for (let at = 0; at < bytes.length;) {
        const size = 1 + random.below(20_000);
        await connection.write(bytes.subarray(at, at + size));
        at += size;
      }
      await connection.write(new Uint8Array(0));
    };
    const readExactly = async (connection: Connection, length: number): Promise<Buffer> => {
      const chunks: Uint8Array[] = [];
      for (let have = 0; have < length;) {
        const chunk = (await connection.read())!;
        assert.equal(chunk.constructor, Uint8Array);
        assert.ok(chunk.length > 0);
        chunks.push(chunk);
        have += chunk.length;
      }
      return Buffer.concat(chunks);
    };
    const [gotUp, gotDown] = await Promise.all([readExactly(server, up.length), readExactly(client, down.length), send(client, up), send(server, down)]);
    assert.ok(gotUp.equals(up) && gotDown.equals(down));
  });

  check("writes that are under way together keep their order", async (pair) => {
    const [client, server] = await pair();
    const all = Promise.all(Array.from({ length: 200 }, (_, i) => client.write(text(`${i},`)))).then(() => client.close());
    const found = (await readAll(server)).toString();
    await all;
    assert.equal(found, Array.from({ length: 200 }, (_, i) => `${i},`).join(""));
  });

  check("close: what was written arrives, then the end; the closed side reads and writes no more", async (pair) => {
    const [client, server] = await pair();
    const waiting = client.read();
    await client.write(text("last words"));
    client.close();
    client.close();
    assert.equal(await waiting, undefined);
    assert.equal(await client.read(), undefined);
    await assert.rejects(client.write(text("x")), refusal("unavailable"));
    assert.equal((await readAll(server)).toString(), "last words");
    assert.equal(await server.read(), undefined);
  });

  check("close after writes that nobody awaited sends them all", async (pair) => {
    const [client, server] = await pair();
    const writes = [client.write(new Uint8Array(400_000).fill(1)), client.write(text("end"))];
    client.close();
    const found = await readAll(server);
    await Promise.all(writes);
    assert.equal(found.length, 400_003);
  });

  check("writing to a side that has closed fails in the end", async (pair, { clock }) => {
    const [client, server] = await pair();
    server.close();
    await assert.rejects(async () => {
      for (let i = 0; i < 1000; i++) {
        await client.write(text("anybody?"));
        await clock.sleep(5);
      }
    }, refusal("unavailable"));
  });

  check("a slow reader makes the writer wait, and loses nothing", async (pair, { clock }) => {
    const [client, server] = await pair();
    const block = new Uint8Array(256 * 1024).fill(7);
    const blocks = 128;
    let written = 0;
    const writing = (async () => {
      for (let i = 0; i < blocks; i++) {
        await client.write(block);
        written += 1;
      }
      client.close();
    })();
    // A machine's own buffers may take some megabytes; 32 MiB they do not take.
    let before = -1;
    while (written !== before) {
      before = written;
      await clock.sleep(100);
    }
    assert.ok(written < blocks, `all ${written} blocks were written although nobody read`);
    assert.equal((await readAll(server)).length, blocks * block.length);
    await writing;
  });

  check("nobody listens: unavailable; a taken port: conflict; what cannot be: invalid", async (_, { client, server, bind, host }, listener) => {
    await assert.rejects(
      server.listen({ host: bind, port: listener.port }, () => undefined),
      refusal("conflict"),
    );
    await assert.rejects(
      server.listen({ host: "no-such-host.invalid", port: 0 }, () => undefined),
      refusal("invalid"),
    );
    await assert.rejects(
      server.listen({ host: bind, port: 70_000 }, () => undefined),
      refusal("invalid"),
    );
    await assert.rejects(client.connect({ host: "no-such-host.invalid", port: 80 }), refusal("unavailable"));
    await assert.rejects(client.connect({ host, port: 0 }), refusal("unavailable"));
    const gone = await server.listen({ host: bind, port: 0 }, () => undefined);
    await gone.close();
    await assert.rejects(client.connect({ host, port: gone.port }), refusal("unavailable"));
  });

  check("closing a listener frees its port and leaves connections alone", async (pair, { client, server, bind, host }, listener) => {
    const [near, far] = await pair();
    await listener.close();
    await assert.rejects(client.connect({ host, port: listener.port }), refusal("unavailable"));
    await near.write(text("still here"));
    assert.equal(await readSome(far, 10), "still here");
    const again = await server.listen({ host: bind, port: listener.port }, () => undefined);
    assert.equal(again.port, listener.port);
    await again.close();
  });

  check("many connections do not mix", async (pair) => {
    const pairs: [Connection, Connection][] = [];
    for (let i = 0; i < 20; i++) pairs.push(await pair());
    await Promise.all(
      pairs.map(async ([client, server], i) => {
        await client.write(text(`from ${i + 10}`));
        await server.write(text(`back ${i + 10}`));
      }),
    );
    for (const [i, [client, server]] of pairs.entries()) {
      assert.equal(await readSome(server, 7), `from ${i + 10}`);
      assert.equal(await readSome(client, 7), `back ${i + 10}`);
      assert.match(client.remote, /:\d+$/);
    }
  });

  /** Collects what a flow gets; `next` waits until `bytes` bytes are there. */
  class Collector implements FlowReceiver {
    readonly parts: Buffer[] = [];
    bytes = 0;
    ends = 0;
    drains = 0;
    broke: MillraceError | undefined;
    #wake: (() => void) | undefined;
    data(buffer: Uint8Array, bytes: number): void {
      assert.equal(this.ends, 0, "nothing after the end");
      this.parts.push(Buffer.from(buffer.subarray(0, bytes)));
      this.bytes += bytes;
      buffer.fill(0, 0, bytes);
      this.#wake?.();
    }
    drained(): void {
      this.drains += 1;
      this.#wake?.();
    }
    end(broke: MillraceError | undefined): void {
      this.ends += 1;
      this.broke = broke;
      this.#wake?.();
    }
    async until(claim: () => boolean): Promise<void> {
      while (!claim()) await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  check("flow: bytes arrive in order both ways, an end is told once, what was sent before a close arrives", async (pair) => {
    const [client, server] = await pair();
    const [up, down] = [new Collector(), new Collector()];
    const [serverFlow, clientFlow] = [flowOf(server, up), flowOf(client, down)];
    const random = new Prng(4);
    const bytes = random.bytes(new Uint8Array(400_000));
    for (let at = 0; at < bytes.length;) {
      const to = Math.min(bytes.length, at + 1 + random.below(30_000));
      if (!clientFlow.send(bytes, at, to)) {
        const drains = down.drains;
        await down.until(() => down.drains > drains);
      }
      at = to;
    }
    await up.until(() => up.bytes === bytes.length);
    assert.ok(Buffer.concat(up.parts).equals(bytes));
    serverFlow.send(bytes, 0, 100_000);
    serverFlow.close();
    serverFlow.close();
    await down.until(() => down.ends > 0);
    assert.ok(Buffer.concat(down.parts).equals(bytes.subarray(0, 100_000)));
    await up.until(() => up.ends > 0);
    assert.deepEqual([up.ends, down.ends, up.broke], [1, 1, undefined]);
    assert.equal(clientFlow.send(bytes, 0, 10), true, "a send after the end is thrown away");
  });

  check("flow: a paused receiver gets at most one chunk more, and the sender is held back", async (pair, { clock }) => {
    const [client, server] = await pair();
    const [up, down] = [new Collector(), new Collector()];
    const [serverFlow, clientFlow] = [flowOf(server, up), flowOf(client, down)];
    clientFlow.send(text("first"), 0, 5);
    await up.until(() => up.bytes === 5);
    await clock.sleep(10);
    const drains = down.drains;
    serverFlow.pause();
    const bytes = new Uint8Array(64 * 1024 * 1024);
    assert.equal(clientFlow.send(bytes, 0, bytes.length), false);
    await clock.sleep(100);
    assert.ok(up.bytes <= 5 + 65_536, `${up.bytes} bytes came`);
    assert.equal(down.drains, drains);
    serverFlow.resume();
    await up.until(() => up.bytes === bytes.length + 5);
    await down.until(() => down.drains > drains);
  });

  check("flow: destroyed on one side, it ends on the other", async (pair) => {
    const [client, server] = await pair();
    const [up, down] = [new Collector(), new Collector()];
    const [, clientFlow] = [flowOf(server, up), flowOf(client, down)];
    clientFlow.destroy();
    await up.until(() => up.ends > 0);
    await down.until(() => down.ends > 0);
    assert.deepEqual([up.ends, down.ends, down.broke], [1, 1, undefined]);
  });
}
