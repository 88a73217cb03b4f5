// Guards what a server promises while it opens: it listens at once on both ports, says how far it is, refuses the rest, and clients of Redis wait for it.

import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import { freePort } from "./free-port.ts";
import { RawClient, type Tree } from "./redis/raw-client.ts";
import { newDataFolder, startWholeServer } from "./whole-server.ts";

const said = ([type, content]: Tree): string => `${type}${String(content)}`;

test("promise: while the store is opened both ports listen and say so; then the same sockets serve", async (t) => {
  const dataFolder = newDataFolder(t);
  const [port, respPort] = [await freePort(), await freePort()];
  const first = await startWholeServer(t, {}, { dataFolder });
  const filling = await RawClient.open(first.respPort);
  for (let from = 0; from < 120_000; from += 2_000) {
    await filling.send(Array.from({ length: 2_000 }, (_one, index) => ["SET", `key:${from + index}`, "v".repeat(100)]));
  }
  filling.close();
  await first.stop(1_000);

  const starting = startWholeServer(t, {}, { dataFolder, port, respPort });
  let started = false;
  const whenStarted = starting.then(() => (started = true));
  const seen = { live: 0, notReady: new Set<string>(), refused: 0, loading: new Set<string>(), info: "" };
  let redis: Redis | undefined;
  let early: RawClient | undefined;
  const url = `http://127.0.0.1:${port}`;
  while (!started) {
    const live = await fetch(`${url}/health/live`).catch(() => undefined);
    if (live?.ok === true) seen.live++;
    const ready = live === undefined ? undefined : await fetch(`${url}/health/ready`);
    if (ready?.status === 503) {
      const { waiting, error } = (await ready.json()) as { waiting: string[]; error: { code: string; retryable: boolean } };
      assert.deepEqual([error.code, error.retryable], ["unavailable", true]);
      for (const one of waiting) seen.notReady.add(one);
      const other = await fetch(`${url}/v1/recommend/shop`, { method: "POST", headers: { "content-type": "application/json" }, body: "{}" });
      if (other.status === 503) {
        assert.ok(Number(other.headers.get("retry-after")) > 0);
        assert.match(await other.text(), /"code":"unavailable"/);
        seen.refused++;
      }
    }
    early ??= await RawClient.open(respPort).catch(() => undefined);
    if (early !== undefined) {
      redis ??= new Redis(respPort);
      const [ping, get, info, ...others] = await early.send([["PING"], ["GET", "key:7"], ["INFO", "persistence"], ["TINFO"], ["WATCH", "key:7"]]);
      if (said(get!).startsWith("-")) {
        seen.loading.add(said(get!));
        assert.equal(said(ping!).split(" ")[0], "-LOADING");
        for (const other of others) {
          // It may have opened in between.
          if (said(other).startsWith("-")) seen.loading.add(said(other));
        }
        if (seen.info === "") seen.info = said(info!);
      }
    }
    await sleep(1);
  }
  await whenStarted;
  t.diagnostic(JSON.stringify({ ...seen, notReady: [...seen.notReady], loading: [...seen.loading], info: seen.info.length }));
  assert.ok(seen.live > 0 && seen.refused > 0 && seen.loading.size > 0, "nothing was asked while it opened");
  assert.ok([...seen.notReady].some((one) => /^opening the store: \d+ %$/.test(one)));
  assert.match([...seen.loading][0]!, /^-LOADING millrace is loading its data: opening the store: \d+ %$/);
  for (const one of seen.loading) assert.match(one, /^-LOADING millrace is loading its data/);
  assert.match(seen.info, /loading:1\r\n/);
  assert.match(seen.info, /loading_eta_seconds:\d+/);

  assert.equal((await fetch(`${url}/health/ready`)).status, 200);
  assert.equal((await fetch(`${url}/v1/store`)).status, 200);
  assert.equal(said((await early!.send([["GET", "key:7"]]))[0]!), `$"${"v".repeat(100)}"`, "a connection from before is served");
  assert.equal(await redis!.get("key:119999"), "v".repeat(100), "a client that connected meanwhile has waited");
  redis!.disconnect();
  early!.close();
  await assert.rejects(startWholeServer(t, {}, { port }), { code: "conflict", message: new RegExp(`port ${port} .*--port`) });
});
