// Guards the page *Vectors* in a real browser against a real server: a collection written by a Redis client is seen and searched, a task is made, run, changed, rolled back, disabled and removed
// from the page, a build that is refused says why, in both themes, by keyboard and on a phone.

import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test, type TestContext } from "node:test";
import { Redis } from "ioredis";
import type { Browser } from "playwright-core";
import { Prng } from "#base/prng";
import { axeFindings, openPage, sidewaysPx, skipWithoutBrowser, type View, type Watched } from "./browser.ts";
import { type DemoServer, startServerAndBrowser } from "./demo-server.ts";

const suiteMsMax = 180_000;
const rows = 1_500;
const dims = 8;

suite("the page Vectors", { skip: skipWithoutBrowser, timeout: suiteMsMax }, () => {
  const folder = mkdtempSync(join(tmpdir(), "millrace-vectors-"));
  const imports = join(folder, "imports");
  const file = join(imports, "films.jsonl");
  let browser: Browser;
  let server: DemoServer;
  let redis: Redis;
  let stop: (() => Promise<void>) | undefined;

  /** Films of which the first is next to the second. */
  const writeFilms = (count: number): void => {
    const random = new Prng(5);
    const lines = Array.from({ length: count }, (_, i) => {
      const vector = Array.from({ length: dims }, () => Number((random.float() - 0.5).toFixed(4)));
      return JSON.stringify({ id: `film-${i}`, vector, year: 1950 + (i % 70) });
    });
    writeFileSync(file, `${lines.join("\n")}\n`);
  };

  before(async () => {
    mkdirSync(imports);
    writeFilms(rows);
    const config = join(folder, "vectors.json");
    writeFileSync(config, JSON.stringify({ model: null, vectors: {}, storage: { importFolders: [imports] } }));
    ({ server, browser, stop } = await startServerAndBrowser(["--no-demo", "--config", config]));
    const { redis: port } = (await (await fetch(`${server.address}/v1/store`)).json()) as { redis: { port: number } };
    redis = new Redis({ port: port.port, host: "127.0.0.1", protocol: 2 } as never);
  });
  after(async () => {
    redis?.disconnect();
    await stop?.();
    rmSync(folder, { recursive: true, force: true });
  });

  const open = (context: TestContext, view: View = {}): Promise<Watched> => openPage(context, browser, server.address, "/#/vectors", view);

  test("promise: a vector written by any Redis client is a collection on the page, and can be searched there", async (context) => {
    const { page, complaints } = await open(context);
    await page.getByText("There is no collection yet.").waitFor();
    assert.deepEqual(await axeFindings(page), [], "empty");
    for (const [name, x, y] of [
      ["alien", 1, 0.1],
      ["aliens", 1, 0.2],
      ["amelie", -1, 0.5],
    ] as const) {
      assert.equal(await redis.call("VADD", "shelf", "VALUES", "3", String(x), String(y), "0.5", name, "SETATTR", `{"year": ${x > 0 ? 1979 : 2001}}`), 1);
    }
    const row = page.locator('[data-collection="shelf"]', { hasText: /shelf\s*ready\s*3\s*3\s*cosine/ });
    await row.waitFor();
    await page.getByLabel("Near which element").fill("alien");
    await page.getByRole("button", { name: "Search", exact: true }).click();
    const found = page.getByTestId("neighbours");
    await found.locator("tr", { hasText: "aliens" }).waitFor();
    assert.match(await found.innerText(), /3 found in [\d.]+ ms/);
    assert.match(await found.innerText(), /"year":2001/);
    await page.getByLabel("Only those for which").fill(".year > 2000");
    await page.getByRole("button", { name: "Search", exact: true }).click();
    await found.getByText(/1 found in/).waitFor();
    assert.deepEqual(await axeFindings(page), [], "with neighbours");
    // A filter that is none says where, and what to do.
    await page.getByLabel("Only those for which").fill(".year >");
    await page.getByRole("button", { name: "Search", exact: true }).click();
    await page
      .getByRole("alert")
      .getByText(/What to do/)
      .waitFor();
    await page.getByLabel("Only those for which").fill("");
    await page.getByLabel("Near which element").fill("nobody");
    await page.getByRole("button", { name: "Search", exact: true }).click();
    await page
      .getByRole("alert")
      .getByText(/nobody/)
      .waitFor();
    assert.deepEqual(complaints, []);
  });

  test("promise: a task is made, run, changed, rolled back, disabled and removed from the page, each change kept with who made it", async (context) => {
    const { page, complaints } = await open(context);
    await page.getByText("There is none. Declare one").waitFor();
    await page.getByText("Make a task").click();
    const form = page.locator("form", { has: page.getByRole("button", { name: "Make the task" }) });
    await form.getByLabel("Name").fill("films");
    await form.getByLabel("What it does, as JSON").fill("{ no json");
    await form.getByRole("button", { name: "Make the task" }).click();
    await form
      .getByRole("alert")
      .getByText(/This is no JSON/)
      .waitFor();
    const config = { source: { files: [file], attributes: ["year"] }, memoryMb: 512 };
    await form.getByLabel("What it does, as JSON").fill(JSON.stringify({ ...config, metric: "manhattan" }));
    await form.getByRole("button", { name: "Make the task" }).click();
    await form
      .getByRole("alert")
      .getByText(/metric/)
      .waitFor();
    await form.getByLabel("What it does, as JSON").fill(JSON.stringify(config));
    await form.getByRole("button", { name: "Make the task" }).click();
    await page.getByText("films is made.").waitFor();

    const task = page.locator('[data-task="films"]');
    const detail = page.locator('[data-detail="films"]');
    await task.getByRole("button", { name: /^Run now/ }).click();
    await detail.locator('[data-verdict="live"]').waitFor({ timeout: 60_000 });
    await page.locator('[data-collection="films"]', { hasText: /1,500/ }).waitFor({ timeout: 30_000 });
    const first = await detail.locator('[data-version][data-state="live"] code').innerText();
    assert.deepEqual(await axeFindings(page), [], "with a task");

    // Told otherwise, run again: the new version is live, the first one the way back.
    writeFilms(rows + 200);
    await detail.getByText("Change what it does").click();
    await detail.getByLabel("What films does, as JSON").fill(JSON.stringify({ ...config, recallTarget: 0.95 }));
    await detail.getByRole("button", { name: "Change films" }).click();
    await page.getByText("films is changed: edition 2.").waitFor();
    await task.getByRole("button", { name: /^Run now/ }).click();
    await detail.locator(`[data-version="${first}"][data-state="backup"]`).waitFor({ timeout: 60_000 });
    await page.locator('[data-collection="films"]', { hasText: /1,700/ }).waitFor({ timeout: 30_000 });
    const dialog = page.getByRole("dialog");
    await detail.getByRole("button", { name: "Roll back films" }).click();
    await dialog.getByRole("button", { name: "Roll back" }).click();
    await page.getByText(`films is back at ${first}.`).waitFor({ timeout: 30_000 });
    await page.locator('[data-collection="films"]', { hasText: /1,500/ }).waitFor({ timeout: 30_000 });

    // Shrunk to a tenth: refused, with the reason, and what is live stays.
    writeFilms(rows / 10);
    await task.getByRole("button", { name: /^Run now/ }).click();
    await detail.locator('[data-verdict="refused"] .why-refused').waitFor({ timeout: 60_000 });
    assert.match(await detail.locator('[data-verdict="refused"] .why-refused').innerText(), /rows/);
    await detail.locator(`[data-version="${first}"][data-state="live"]`).waitFor();
    assert.deepEqual(await axeFindings(page), [], "refused");

    await detail.getByRole("button", { name: "Disable" }).click();
    await dialog.getByRole("button", { name: "Disable" }).click();
    await page.getByText("films is disabled.").waitFor();
    await detail.getByText("Its latest changes").click();
    for (const action of ["create", "change", "disable", "rollback"]) await detail.locator(".changes li", { hasText: action }).first().waitFor();
    await detail.getByRole("button", { name: "Remove" }).click();
    await dialog.getByRole("button", { name: "Remove" }).click();
    await page.getByText("films is removed.").waitFor();
    await task.waitFor({ state: "detached" });
    // Its collection stays.
    await page.locator('[data-collection="films"]').waitFor();
    assert.deepEqual(complaints, []);
  });

  test("promise: in the dark, on a phone and by keyboard it is the same page", async (context) => {
    const { page, complaints } = await open(context, { theme: "dark", width: 360, height: 740 });
    await page.locator('[data-collection="shelf"]').waitFor();
    assert.deepEqual(await axeFindings(page), []);
    assert.equal(await sidewaysPx(page), 0);
    await page.getByRole("button", { name: "shelf", exact: true }).focus();
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: "Search shelf" }).waitFor();
    assert.deepEqual(complaints, []);
  });
});
