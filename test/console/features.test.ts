// Guards the page *Features* in a real browser against a real server with tables: an import begun by the form is seen running and live, a row is told cell by cell with
// all digits, a roll-back is asked for first and seen, in both themes, by keyboard and on a phone.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test, type TestContext } from "node:test";
import type { Browser, Page } from "playwright-core";
import { axeFindings, openPage, sidewaysPx, skipWithoutBrowser, type View, type Watched } from "./browser.ts";
import { type DemoServer, startServerAndBrowser } from "./demo-server.ts";

const suiteMsMax = 120_000;
/** An import starts a process, which starts two. */
const importMsMax = 30_000;

const tables = {
  items: {
    key: "string",
    columns: {
      ctr: { type: "f32", owner: "stream", ttlHours: 24 },
      embedding: { type: "f32", length: 3, owner: "batch" },
      views: { type: "i64" },
      title: { type: "string" },
    },
  },
  users: { key: "u64", columns: { age: { type: "f32" } } },
};

suite("the page Features", { skip: skipWithoutBrowser, timeout: suiteMsMax }, () => {
  const folder = mkdtempSync(join(tmpdir(), "millrace-features-"));
  const file = (name: string, text: string): string => {
    writeFileSync(join(folder, name), text);
    return join(folder, name);
  };
  let browser: Browser;
  let server: DemoServer;
  let stop: (() => Promise<void>) | undefined;

  before(async () => {
    const config = file("tables.json", JSON.stringify({ tables, storage: { importFolders: [folder] } }));
    ({ server, browser, stop } = await startServerAndBrowser(["--no-demo", "--config", config]));
  });
  after(async () => {
    await stop?.();
    rmSync(folder, { recursive: true, force: true });
  });

  const open = (context: TestContext, view: View = {}): Promise<Watched> => openPage(context, browser, server.address, "/#/features", view);
  const post = async (path: string, body: object): Promise<void> => {
    const response = await fetch(server.address + path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
    assert.ok(response.ok, `${path}: ${response.status} ${await response.text()}`);
  };
  const cell = (page: Page, column: string) => page.locator(`[data-column="${column}"]`);
  const live = (page: Page) => page.locator('[data-state="live"][data-version]');

  test("promise: an import is begun, watched and rolled back from the page, and a row tells where each value comes from", async (context) => {
    const { page, complaints } = await open(context);
    // Readers all the while.
    const reading = setInterval(() => void post("/v1/tables/items/read", { keys: ["room-1", "room-2", "room-9"] }), 100);
    context.after(() => clearInterval(reading));
    await page.getByText("Nothing was imported yet").waitFor();
    assert.deepEqual(await axeFindings(page), [], "before the first import");

    // What the server counts by itself is folded away below, and not offered for an import.
    const counted = page.locator('[data-table="activity.users"]');
    assert.equal(await counted.isVisible(), false);
    await page.getByText("more that the server counts").click();
    await counted.waitFor();
    const listed = await page.locator("[data-table]").evaluateAll((rows) => rows.map((row) => row.getAttribute("data-table")!));
    assert.deepEqual(listed.slice(0, 2), ["items", "users"]);
    assert.ok(listed.slice(2).length > 0 && listed.slice(2).every((name) => name.startsWith("activity.")), listed.join(" "));
    assert.deepEqual(await page.getByLabel("Into the table").locator("option").allTextContents(), ["items", "users"]);

    // A row that does not fit is refused, and only that one.
    const first = file(
      "first.csv",
      'id,embedding,views,title\nroom-1,"[1,0,0.5]",9007199254740993,Tea at night\nroom-2,"[0,1,0]",7,Songs\nroom-3,"[0,1,0]",x7,Bad\n',
    );
    await page.getByRole("button", { name: "Begin the import" }).click();
    await page.getByText("There is nothing to import.").waitFor();
    await page.getByLabel("Files on the server, one a line").fill(first);
    await page.getByRole("button", { name: "Begin the import" }).click();
    await page.getByRole("progressbar").first().waitFor();
    assert.match(await page.locator(".imports").innerText(), /Rows a second|Left/);
    const done = page.locator('.imports [data-stage="done"]', { hasText: "items" });
    await done.waitFor({ timeout: importMsMax });
    assert.match(await done.innerText(), /Refused rows\s+1\b/);
    assert.match(await done.innerText(), /Refused: column views: /);
    assert.match(await done.innerText(), /rejects\/items-.*\.jsonl/);
    await live(page).waitFor();
    const firstVersion = (await live(page).getAttribute("data-version"))!;
    await page.locator('[data-table="items"]', { hasText: firstVersion }).waitFor();
    assert.match(await page.locator('[data-table="items"]').innerText(), /loaded\s+2\s/);

    // Values by import and by live write, told apart, with all digits.
    await post("/v1/tables/items/write", { rows: [{ key: "room-1", values: { ctr: 0.125 } }] });
    await page.getByLabel("Key (id, a text)").fill("room-1");
    await page.keyboard.press("Enter");
    await cell(page, "title").getByText("Tea at night").waitFor();
    assert.match(await cell(page, "views").innerText(), /\s9007199254740993\s.*the import\s+the newer of both\s+never/);
    assert.match(await cell(page, "embedding").innerText(), /\[1, 0, 0\.5\]\s.*the import\s+imports/);
    assert.match(await cell(page, "ctr").innerText(), /0\.125\s+\d+ s\s+a live write\s+live writes\s+in 24\.0 h/);

    // The next version comes by itself.
    const second = file("second.csv", 'id,embedding,views,title\nroom-1,"[0,0,1]",8,Coffee at noon\nroom-2,"[0,1,0]",7,Songs\n');
    await post("/v1/imports", { table: "items", files: [second] });
    await cell(page, "title").getByText("Coffee at noon").waitFor({ timeout: importMsMax });
    await page.locator(`[data-version="${firstVersion}"][data-state="backup"]`).waitFor();

    // Asked first; Escape changes nothing and gives the focus back.
    const rollBack = page.getByRole("button", { name: "Roll back", exact: true });
    await rollBack.click();
    const dialog = page.getByRole("dialog");
    await dialog.getByRole("heading", { name: "Roll items back?" }).waitFor();
    assert.deepEqual(await axeFindings(page), [], "the question");
    await page.keyboard.press("Escape");
    await dialog.waitFor({ state: "detached" });
    assert.equal(await rollBack.evaluate((button) => button.matches(":focus")), true, "back where it was opened");
    await rollBack.click();
    await dialog.getByRole("button", { name: "Roll back" }).click();
    await page.getByText(`items goes back to ${firstVersion}.`).waitFor();
    await cell(page, "title").getByText("Tea at night").waitFor();
    assert.match(await cell(page, "ctr").innerText(), /0\.125\s.*a live write/, "the live write stays");
    await page.locator(`[data-version="${firstVersion}"][data-state="live"]`).waitFor();

    // Forward again by the version's own button.
    await page
      .getByRole("button", { name: /^Put live/ })
      .first()
      .click();
    await dialog.getByRole("button", { name: "Put live" }).click();
    await cell(page, "title").getByText("Coffee at noon").waitFor();

    await page.getByLabel("Key (id, a text)").fill("nobody");
    await page.getByRole("button", { name: "Look" }).click();
    await page.getByText("There is no row nobody.").waitFor();

    // Counted between two looks; columns are judged by what was read.
    await page.locator(".legend", { hasText: /keys read\s*[1-9]/ }).waitFor();
    assert.match(await page.getByTestId("reads-during").innerText(), /While an import runs: [1-9][\d.,]* keys a second/);
    await page.getByText("Drift is against the version before").waitFor();
    assert.ok(await counted.isVisible(), "what was unfolded stays so");
    assert.deepEqual(await axeFindings(page), [], "with everything on it");
    assert.deepEqual(complaints, []);
  });

  test("promise: in the dark and on a phone of 360 pixels axe-core finds nothing and nothing scrolls sideways; a table is chosen by keyboard", async (context) => {
    const { page, complaints } = await open(context, { theme: "dark", width: 360, height: 740 });
    await page.locator(".imports li").first().waitFor();
    await page.getByLabel("Key (id, a text)").fill("room-1");
    await page.keyboard.press("Enter");
    await cell(page, "title").waitFor();
    await page.getByText("More", { exact: true }).click();
    await page.getByText("more that the server counts").click();
    assert.deepEqual(await axeFindings(page), []);
    assert.equal(await sidewaysPx(page), 0);
    await page.getByRole("button", { name: "users", exact: true }).focus();
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: "Versions of users" }).waitFor();
    await page.getByLabel("Key (id, a whole number)").waitFor();
    assert.deepEqual(complaints, []);
  });
});
