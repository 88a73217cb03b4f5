// Guards the page *Parameters* in a real browser against a real server with parameter tables: pulls and pushes are seen, rows are told hot and cold, a table is saved, a
// model is rolled back and retired after a question, in both themes, by keyboard and on a phone.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test, type TestContext } from "node:test";
import { Redis } from "ioredis";
import type { Browser } from "playwright-core";
import { readConfig } from "#cli/config-file";
import { freePort } from "../free-port.ts";
import { startTestServer } from "../http-server.ts";
import { startWholeServer } from "../whole-server.ts";
import { axeFindings, openPage, sidewaysPx, skipWithoutBrowser, type View, type Watched } from "./browser.ts";
import { type DemoServer, startServerAndBrowser } from "./demo-server.ts";

const suiteMsMax = 230_000;
const dim = 4;
const keysOf = (count: number): Buffer => Buffer.from(BigUint64Array.from({ length: count }, (_, i) => BigInt(i + 1)).buffer);
const rowsOf = (count: number, value: number): Buffer => Buffer.from(new Float32Array(count * dim).fill(value).buffer);

const tables = {
  users: { dim, memoryMb: 4, expireAfterS: 86_400, checkpoint: { everySeconds: 3_600 } },
  items: { dim, memoryMb: 4, admission: { sightings: 2 } },
};

suite("the page Parameters", { skip: skipWithoutBrowser, timeout: suiteMsMax }, () => {
  const folder = mkdtempSync(join(tmpdir(), "millrace-parameters-"));
  let browser: Browser;
  let server: DemoServer;
  let redis: Redis;
  let syncPort = 0;
  let stop: (() => Promise<void>) | undefined;

  before(async () => {
    const config = join(folder, "parameters.json");
    syncPort = await freePort();
    const models = { ctr: { tables: ["users"], extractor: "7", quota: { rows: 400 } } };
    const parameters = { tables, models, sync: { node: 1, port: syncPort } };
    writeFileSync(config, JSON.stringify({ model: null, parameters }));
    ({ server, browser, stop } = await startServerAndBrowser(["--no-demo", "--config", config]));
    const { redis: port } = (await (await fetch(`${server.address}/v1/store`)).json()) as { redis: { port: number } };
    redis = new Redis({ port: port.port, host: "127.0.0.1", protocol: 2 } as never);
  });
  after(async () => {
    redis?.disconnect();
    await stop?.();
    rmSync(folder, { recursive: true, force: true });
  });

  const open = (context: TestContext, view: View = {}): Promise<Watched> => openPage(context, browser, server.address, "/#/parameters", view);
  const call = (...args: (string | number | Buffer)[]): Promise<unknown> => redis.call(args[0] as string, ...args.slice(1));

  test("promise: what is pulled, pushed, refused and saved is seen on the page, with how old the rows are", async (context) => {
    const { page, complaints } = await open(context);
    await page.locator('[data-table="users"]').waitFor();
    await page.getByText("It has no rows yet").waitFor();
    assert.deepEqual(await axeFindings(page), [], "empty tables");

    assert.equal(await call("PASSIGN", "users", keysOf(300), rowsOf(300, 1)), 300);
    const pulling = setInterval(() => void call("PPULL", "model:ctr/users", keysOf(350)).catch(() => undefined), 50);
    context.after(() => clearInterval(pulling));
    await page.locator('[data-table="users"]', { hasText: "300" }).waitFor();
    await page.locator(".legend", { hasText: /rows pulled\s*[1-9]/ }).waitFor();
    await page.locator(".legend", { hasText: /of them missing\s*[1-9]/ }).waitFor();
    // Looked at again some rounds later.
    await page.locator('[data-testid="ages"] li', { hasText: /within the last minute\s*100 %/ }).waitFor();
    assert.equal(await page.getByTestId("heat").locator("i").count(), 64);
    assert.match((await page.getByTestId("heat").getAttribute("aria-label"))!, /least \d+, most \d+, mean \d+/);

    // A quota is named where it refuses.
    await call("PASSIGN", "users", keysOf(400), rowsOf(400, 2));
    await assert.rejects(call("PADD", "users", keysOf(1), rowsOf(1, 1)), /model ctr holds 400 rows, its quota is 400/);
    await page.getByText("Refused since the start: 1 over rows").waitFor();

    const checkpoint = page.locator('[data-checkpoint="users"]');
    assert.match(await checkpoint.innerText(), /none yet/);
    await checkpoint.getByRole("button", { name: /^Save now/ }).click();
    await page.getByText("users is saved.").waitFor();
    await page.locator('[data-checkpoint="users"]', { hasText: /^users\d+ s0/ }).waitFor();

    await page.getByRole("button", { name: "items", exact: true }).click();
    await page.getByRole("heading", { name: "Rows of items" }).waitFor();
    assert.match(await page.locator(".facts").innerText(), /Held back by admission\s+0, until 2 sightings/);
    assert.deepEqual(await axeFindings(page), [], "with rows");
    assert.deepEqual(complaints, []);
  });

  test("promise: a model is rolled back, put live and retired from the page, each after a question", async (context) => {
    const first = String(await call("PMODEL", "REGISTER", "home", "TABLES", 2, "users", "items", "EXTRACTOR", "8", "LIVE"));
    const second = String(await call("PMODEL", "REGISTER", "home", "TABLES", 1, "users=items", "LIVE"));
    const { page, complaints } = await open(context);
    const model = page.locator('[data-model="home"]');
    const row = (version: string, state: string) => model.locator(`[data-version="${version}"][data-state="${state}"]`);
    await row(second, "live").waitFor();
    assert.match(await row(second, "live").innerText(), /users = items/);
    assert.match(await row(first, "backup").innerText(), /users, items\s+8\s/);

    // Asked first; Escape changes nothing and gives the focus back.
    const rollBack = model.getByRole("button", { name: "Roll back home" });
    const dialog = page.getByRole("dialog");
    await rollBack.focus();
    await page.keyboard.press("Enter");
    await dialog.getByRole("heading", { name: "Roll home back?" }).waitFor();
    assert.deepEqual(await axeFindings(page), [], "the question");
    await page.keyboard.press("Escape");
    await dialog.waitFor({ state: "detached" });
    assert.equal(await rollBack.evaluate((button) => button.matches(":focus")), true, "back where it was opened");
    await row(second, "live").waitFor();
    await rollBack.click();
    await dialog.getByRole("button", { name: "Roll back" }).click();
    await page.getByText(`home is back at ${first}.`).waitFor();
    await row(first, "live").waitFor();
    assert.equal(await rollBack.isDisabled(), true, "nothing before the first");
    assert.ok(String(await call("PPULL", "model:home/items", keysOf(1))).length > 0);

    await row(second, "staged")
      .getByRole("button", { name: /^Put live/ })
      .click();
    await dialog.getByRole("button", { name: "Put live" }).click();
    await row(second, "live").waitFor();
    await row(first, "backup")
      .getByRole("button", { name: /^Retire/ })
      .click();
    await dialog.getByRole("button", { name: "Retire" }).click();
    await page.getByText(`${first} of home is gone.`).waitFor();
    await model.locator(`[data-version="${first}"]`).waitFor({ state: "detached" });
    await page.getByText("changes of models and tables").click();
    await page.locator(".changes li", { hasText: `anonymous` }).filter({ hasText: "rolled back to" }).waitFor();
    // What the server refuses is said in the dialog: somebody else was quicker.
    const third = String(await call("PMODEL", "REGISTER", "home", "TABLES", 1, "users"));
    await row(third, "staged")
      .getByRole("button", { name: /^Put live/ })
      .click();
    await call("PMODEL", "RETIRE", "home", third);
    await dialog.getByRole("button", { name: "Put live" }).click();
    await dialog
      .getByRole("alert")
      .getByText(/What to do: list its versions/)
      .waitFor();
    await page.keyboard.press("Escape");
    assert.deepEqual(complaints, []);
  });

  test("promise: in the dark, on a phone and by keyboard it is the same page", async (context) => {
    const { page, complaints } = await open(context, { theme: "dark", width: 360, height: 740 });
    await page.locator('[data-checkpoint="users"]').waitFor();
    await page.locator('[data-model="ctr"]').waitFor();
    await page.getByTestId("heat").waitFor();
    assert.deepEqual(await axeFindings(page), []);
    assert.equal(await sidewaysPx(page), 0);
    await page.getByRole("button", { name: "items", exact: true }).focus();
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: "Rows of items" }).waitFor();
    assert.deepEqual(complaints, []);
  });

  test("promise: the lag of a replica is seen where it is followed, and on the replica from whom it takes its rows and whether it has caught up", async (context) => {
    const { page, complaints } = await open(context);
    assert.match(await page.locator('[data-sync="users"]').innerText(), /ready\s+none\s+nobody/);
    const follower = await startWholeServer(context, { parameters: { tables, sync: { node: 2, port: 0, follow: [`127.0.0.1:${syncPort}`] } } });
    await page.locator('[data-sync="users"]', { hasText: /node 2: [\d.]+ ms/ }).waitFor();
    await page.locator(".legend", { hasText: /node 2\s*[\d.]+ ms/ }).waitFor();
    assert.deepEqual(await axeFindings(page), []);
    const theirs = await openPage(context, browser, follower.address, "/#/parameters");
    await theirs.page.locator('[data-sync="users"]', { hasText: "ready" }).waitFor();
    await theirs.page.locator('[data-sync="users"]', { hasText: new RegExp(`127\\.0\\.0\\.1:${syncPort}: heard \\d+ s ago`) }).waitFor();
    assert.match(await theirs.page.locator('[data-table="users"]').innerText(), /ready\s+400\s/);
    assert.deepEqual([...complaints, ...theirs.complaints], []);
  });

  test("promise: a replica that can never catch up says so with what to do: on the page, in /health/ready and to whoever pulls", async (context) => {
    const sync = { node: 3, port: 0, follow: [`127.0.0.1:${syncPort}`] };
    const wrong = await startWholeServer(context, { parameters: { tables: { users: { dim: 8, memoryMb: 4 } }, sync } });
    const { page, complaints } = await openPage(context, browser, wrong.address, "/#/parameters");
    await page.locator('[data-sync="users"]', { hasText: "cannot catch up" }).waitFor();
    await page.locator('[data-sync="users"]', { hasText: "give both sides the same table, shape and token" }).waitFor();
    const answer = await fetch(`${wrong.address}/health/ready`);
    const { waiting, error } = (await answer.json()) as { waiting: string[]; error: { code: string; todo: string; retryable: boolean } };
    assert.deepEqual([answer.status, error.code, error.retryable, waiting.length], [503, "conflict", false, 1]);
    assert.match(error.todo, /give both sides the same table, shape and token/);
    const client = new Redis({ port: wrong.respPort, host: "127.0.0.1", protocol: 2 } as never);
    context.after(() => client.disconnect());
    await assert.rejects(
      client.call("PPULL", "users", keysOf(1)),
      /\[conflict\] parameter table users is not ready: it cannot be loaded from .*: give both sides the same table/,
    );
    assert.deepEqual(complaints, []);
  });

  test("promise: a server without parameter tables says how to declare one, and the example can be declared as it stands", async (context) => {
    const own = await startTestServer(context, {});
    const { page, complaints } = await openPage(context, browser, own.http.address, "/#/parameters");
    await page.getByText("This server has no parameter tables.").waitFor();
    assert.deepEqual(await axeFindings(page), []);
    const path = join(folder, "example.json");
    writeFileSync(path, (await page.locator(".notice pre").textContent())!);
    const { parameters } = await readConfig(path, "feed");
    assert.equal(parameters?.sync, undefined);
    assert.equal(parameters?.tables?.["users"]?.dim, 16);
    assert.equal(parameters?.models?.["ctr"]?.quota?.pushedRowsPerS, 50_000);
    assert.deepEqual(complaints, []);

    const lonely = await startWholeServer(context, { parameters: {} });
    await page.goto(`${lonely.address}/#/parameters`);
    await page.getByText("There is no parameter table.").waitFor();
    await page.getByText("None is registered.").waitFor();
    assert.deepEqual(await axeFindings(page), []);
    const client = new Redis({ port: lonely.respPort, host: "127.0.0.1", protocol: 2 } as never);
    context.after(() => client.disconnect());
    // As the page says.
    await client.call("PCREATE", "users", "DIM", "16", "MEMORY", "256");
    await page.getByTestId("no-sync").waitFor();
    await client.call("PMODEL", "REGISTER", "ctr", "TABLES", "1", "users", "LIVE");
    await page.locator('[data-model="ctr"]').waitFor();
  });
});
