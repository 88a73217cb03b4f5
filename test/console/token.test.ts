// Guards the console on a server whose configuration names who may: it asks for a token, every page works with one, and nothing is shown without.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import type { Browser } from "playwright-core";
import { axeFindings, openPage, skipWithoutBrowser } from "./browser.ts";
import { type DemoServer, startServerAndBrowser } from "./demo-server.ts";

const right = "operator-token-1";

suite("the console and access", { skip: skipWithoutBrowser, timeout: 120_000 }, () => {
  const folder = mkdtempSync(join(tmpdir(), "millrace-token-"));
  let browser: Browser;
  let server: DemoServer;
  let stop: (() => Promise<void>) | undefined;
  before(async () => {
    const config = join(folder, "access.json");
    const access = { users: { operator: { tokens: [right], scopes: ["admin", "read", "write", "events", "recommend", "import"] } }, anonymous: [] };
    const tables = { items: { key: "string", columns: { views: { type: "i64" } } } };
    writeFileSync(config, JSON.stringify({ tables, access }));
    ({ server, browser, stop } = await startServerAndBrowser(["--no-demo", "--config", config]));
  });
  after(async () => {
    await stop?.();
    rmSync(folder, { recursive: true, force: true });
  });

  test("promise: without a token the page asks for one; with it every page and the live stream work, and it stays with the tab", async (context) => {
    const { page, complaints } = await openPage(context, browser, server.address, "/#/features");
    const dialog = page.getByRole("dialog", { name: "Access token" });
    await dialog.waitFor();
    assert.deepEqual(await axeFindings(page), []);
    const field = dialog.getByLabel(/A token of the configuration/);
    await field.fill("wrong-token-1");
    await field.press("Enter");
    await dialog.getByText(/token is not known/i).waitFor();
    await field.fill(right);
    await dialog.getByRole("button", { name: "Use this token" }).click();
    await dialog.waitFor({ state: "detached" });
    await page.getByText("ready", { exact: true }).waitFor();
    await page.getByText("Nothing was imported yet").waitFor();
    const streamed = page.waitForResponse((response) => response.url().includes("/v1/live") && response.status() === 200);
    await page.reload();
    assert.equal((await streamed).request().headers()["authorization"], `Bearer ${right}`);
    for (const path of ["", "overview", "quality", "pipelines", "features", "parameters"]) {
      await page.goto(`${server.address}/#/${path}`);
      await page.getByText("ready", { exact: true }).waitFor();
      assert.equal(await dialog.count(), 0, `page ${path} asks for a token again`);
    }
    assert.equal(await page.evaluate("sessionStorage.getItem('millrace.token')"), right);
    assert.equal(await page.evaluate("JSON.stringify(localStorage)").then((kept) => String(kept).includes(right)), false);
    assert.ok(!page.url().includes(right));
    await page.getByRole("button", { name: "Token" }).click();
    await dialog.getByRole("button", { name: "Not now" }).click();
    await dialog.waitFor({ state: "detached" });
    assert.deepEqual(complaints, []);
  });
});
