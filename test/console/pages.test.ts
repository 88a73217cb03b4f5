// Guards what a person sees: the newcomer's first minute by real clicks in a real browser against the real server, every page in both themes, by keyboard, on a
// phone, and what pages say when there is nothing to show.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test, type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { Browser, Page } from "playwright-core";
import { readConfig } from "#cli/config-file";
import type { StatusAnswer } from "#wire/api";
import type { TrainingStatus } from "#wire/live-api";
import { startTestServer } from "../http-server.ts";
import { axeFindings, launchBrowser, openPage, sidewaysPx, skipWithoutBrowser, type View, type Watched } from "./browser.ts";
import { type DemoServer, startDemoServer } from "./demo-server.ts";

const pages = ["", "overview", "quality", "pipelines", "features", "parameters"] as const;
/** What a page has once it shows something. */
const shownBy = { "": "main", overview: ".plot canvas", quality: "main", pipelines: ".flow-step", features: ".notice pre", parameters: ".notice pre" } as const;
/** Filling the demo world takes some seconds, on a loaded machine more. */
const worldMsMax = 60_000;
const suiteMsMax = 230_000;

async function get<Answer>(address: string, path: string): Promise<Answer | undefined> {
  const response = await fetch(address + path);
  return response.ok ? ((await response.json()) as Answer) : undefined;
}

/** The trainer, a thread of its own, reports once a second. */
async function stateBecomes(address: string, state: TrainingStatus["state"]): Promise<void> {
  const deadline = performance.now() + 10_000;
  for (;;) {
    const now = (await get<TrainingStatus>(address, "/v1/training"))!.state;
    if (now === state) return;
    assert.ok(performance.now() < deadline, `the trainer is ${now}, not ${state}`);
    await sleep(100);
  }
}

const cards = (page: Page) => page.locator(".cards article");
const orderOf = async (page: Page): Promise<string[]> =>
  page.locator(".cards article").evaluateAll((found) => found.map((one) => one.getAttribute("data-card")!));

/** Clicks the card at a position and waits until the way says that the next feed is there. */
async function clickCard(page: Page, position: number): Promise<void> {
  const title = (await page.locator(".card-open").nth(position).textContent())!;
  await page.locator(".card-open").nth(position).click();
  await page.locator(".way-act", { hasText: title }).waitFor();
  await page.locator('.way [data-stage="answer"][data-state="seen"]').waitFor();
}

const msOf = async (page: Page, stage: string, clock: "b" | ".way-server"): Promise<number> =>
  // On a slow machine it is more than a second, written 1,034.
  Number.parseFloat((await page.locator(`.way [data-stage="${stage}"] ${clock}`).innerText()).replace("server ", "").replaceAll(",", ""));

suite("the console", { skip: skipWithoutBrowser, timeout: suiteMsMax }, () => {
  let browser: Browser;
  let server: DemoServer;
  // What was started is stopped, also when the other did not start.
  const stops: (() => Promise<void>)[] = [];

  before(async () => {
    server = await startDemoServer(["--rate", "5"]);
    stops.push(() => server.stop());
    browser = await launchBrowser();
    stops.push(() => browser.close());
  });
  after(async () => {
    await Promise.all(stops.map((stop) => stop()));
  });

  const open = async (context: TestContext, path: string, view: View = {}): Promise<Watched> => {
    const opened = await openPage(context, browser, server.address, `/#/${path}`, view);
    if (path === "") await cards(opened.page).first().waitFor({ timeout: worldMsMax });
    return opened;
  };

  test("promise: a newcomer sees within the first minute what a click does", async (context) => {
    // Opened at once, while the world is still being made: the feed comes by itself.
    const { page, complaints } = await open(context, "", { reducedMotion: false });
    await assert.doesNotReject(cards(page).nth(11).waitFor(), "twelve cards");
    assert.equal(await page.locator(".cards .art").count(), 12);
    const learner = await get<TrainingStatus>(server.address, "/v1/training");
    const stages = learner?.state === "learning" ? ["event", "feature", "parameter", "vector", "answer"] : ["event", "feature", "answer"];
    const first = await orderOf(page);
    let changes = 0;
    for (const position of [3, 1, 2]) {
      const now = await orderOf(page);
      await clickCard(page, position);
      if ((await orderOf(page)).join() !== now.join()) changes += 1;
      for (const stage of stages) {
        const [seen, own] = [await msOf(page, stage, "b"), await msOf(page, stage, ".way-server")];
        assert.ok(seen > 0 && seen < 10_000, `${stage}: ${seen} ms in the browser`);
        assert.ok(own >= 0 && own <= seen + 1, `${stage}: the server says ${own} ms, the browser ${seen} ms`);
      }
      // Asked for when the vector has come, at the latest after 0.4 s (vectorWaitMs of user-session.ts).
      const asked = Math.min(await msOf(page, "feature", "b"), 400);
      assert.ok((await msOf(page, "answer", "b")) >= asked, "the answer came after what it counts");
    }
    assert.ok(changes >= 2, "the feed stayed as it was");
    assert.notDeepEqual(await orderOf(page), first);
    assert.ok((await page.locator(".badge-change").count()) > 0, "what rose or is new is marked");
    assert.match((await page.locator(".unseen[role=status]").textContent())!, /changed after [\d.]+ milliseconds/, "told to a screen reader");

    const why = page.getByRole("button", { name: /^why / }).nth(1);
    await why.click();
    const dialog = page.getByRole("dialog");
    await dialog.getByRole("heading", { name: "Reasons" }).waitFor();
    assert.match(await dialog.locator(".bars").first().innerText(), /\d %/);
    assert.match(await dialog.innerText(), /found by \w+/);
    assert.match(await dialog.innerText(), /What the weighted score is made of/);
    await dialog.getByText(learner === undefined ? "No opinion of a model" : "now, same features").waitFor();
    await page.keyboard.press("Escape");
    await dialog.waitFor({ state: "detached" });
    assert.equal(await why.evaluate((button) => button.matches(":focus")), true, "back where it was opened");

    const me = await page.getByTestId("me").innerText();
    assert.match(me, /^you-\w{4}$/);
    await page.reload();
    await cards(page).first().waitFor();
    assert.equal(await page.getByTestId("me").innerText(), me, "known again after a reload");
    await page.getByRole("button", { name: "Reset me" }).click();
    await page.getByTestId("me").filter({ hasNotText: me }).waitFor();
    assert.deepEqual(complaints, []);
  });

  test("a like counts, and a pipeline can be chosen", async (context) => {
    const { page, complaints } = await open(context, "");
    await page
      .getByRole("button", { name: /^like / })
      .nth(2)
      .click();
    await page.locator(".way-act", { hasText: "You liked" }).waitFor();
    await page.locator('.way [data-stage="answer"][data-state="seen"]').waitFor();
    await page.getByLabel("Pipeline").selectOption("popular");
    await page.locator('.cards[aria-label="Recommended by popular"]').waitFor();
    await page.getByRole("button", { name: "Ask again" }).click();
    await cards(page).first().waitFor();
    assert.deepEqual(complaints, []);
  });

  test("by keyboard: skip link, a card, and the focus stays in the feed", async (context) => {
    const { page } = await open(context, "");
    await page.keyboard.press("Tab");
    assert.equal(await page.evaluate("document.activeElement.textContent"), "Skip to the page");
    await page.keyboard.press("Enter");
    assert.equal(await page.evaluate("document.activeElement.id"), "main");
    for (let presses = 0; presses < 12; presses += 1) {
      await page.keyboard.press("Tab");
      if ((await page.evaluate(`document.activeElement.matches(".card-open")`)) === true) break;
    }
    assert.equal(await page.evaluate(`document.activeElement.matches(".card-open:focus-visible")`), true, "no card was reached");
    await page.keyboard.press("Enter");
    await page.locator('.way [data-stage="answer"][data-state="seen"]').waitFor();
    assert.equal(await page.evaluate(`document.activeElement.closest(".cards") !== null`), true, "the focus was lost with the old feed");
  });

  test("promise: axe-core finds nothing on any page, light or dark", async (context) => {
    for (const theme of ["light", "dark"] as const) {
      const { page, complaints } = await open(context, "", { theme });
      const coloursOnly = theme === "dark";
      for (const path of pages) {
        await page.evaluate(`location.hash = "#/${path}"`);
        await page.locator("h1").waitFor();
        await page.locator(shownBy[path]).first().waitFor();
        assert.deepEqual(await axeFindings(page, { coloursOnly }), [], `${path || "be a user"}, ${theme}`);
      }
      await page.evaluate(`location.hash = "#/"`);
      await page.getByRole("button", { name: /^why / }).first().click();
      await page.getByRole("heading", { name: "Reasons" }).waitFor();
      assert.deepEqual(await axeFindings(page, { coloursOnly }), [], `why?, ${theme}`);
      assert.deepEqual(complaints, []);
    }
  });

  test("promise: on a phone of 360 pixels nothing scrolls sideways", async (context) => {
    const { page } = await open(context, "", { width: 360, height: 740 });
    await clickCard(page, 0);
    assert.ok(await page.locator(".way-side").isVisible());
    for (const path of pages) {
      await page.evaluate(`location.hash = "#/${path}"`);
      await page.locator(shownBy[path]).first().waitFor();
      assert.equal(await sidewaysPx(page), 0, path || "be a user");
    }
  });

  test("the overview shows each second, its objectives and the memory by owner", async (context) => {
    const { page, complaints } = await open(context, "overview");
    await page.locator(".plot canvas").nth(5).waitFor();
    await page.locator(".tile", { hasText: "Answer time" }).locator("b", { hasText: /\d/ }).waitFor();
    assert.match(await page.locator(".charts").innerText(), /objective, p99\s+50 ms/);
    const { memoryBytes } = (await get<StatusAnswer>(server.address, "/v1/status"))!;
    assert.equal(await page.locator(".panel", { hasText: "Memory by owner" }).locator(".bars li").count(), Object.keys(memoryBytes).length);
    assert.deepEqual(complaints, []);
  });

  test("pipelines are drawn step by step, with rows and p99", async (context) => {
    const { page, complaints } = await open(context, "pipelines");
    const { pipelines } = (await get<{ pipelines: { name: string; nodes: { id: string }[] }[] }>(server.address, "/v1/pipelines"))!;
    await page.locator(".flow-step").first().waitFor();
    const home = pipelines.find(({ name }) => name === "home")!;
    await page.getByLabel("Pipeline").selectOption("home");
    for (const { id } of home.nodes) assert.equal(await page.locator(".flow-step title", { hasText: `${id}: ` }).count(), 1, id);
    await page
      .locator(".flow-cost", { hasText: /^p99 [\d.]+ ms$/ })
      .first()
      .waitFor();
    assert.ok((await page.locator(".flow-band").count()) > home.nodes.length / 2);
    for (const { name } of pipelines) {
      await page.getByLabel("Pipeline").selectOption(name);
      await page.getByRole("heading", { name: `Steps of ${name}` }).waitFor();
    }
    assert.deepEqual(complaints, []);
  });

  test("training can be switched off and on, and the page shows it", async (context) => {
    const { page, complaints } = await open(context, "quality");
    const learner = await get<TrainingStatus>(server.address, "/v1/training");
    if (learner === undefined) {
      await page.getByText("This server runs without a model.").waitFor();
      return;
    }
    const button = page.getByRole("switch", { name: "Real-time training" });
    await page.locator('[role="switch"][aria-checked="true"]').waitFor();
    await button.click();
    await page.locator('[role="switch"][aria-checked="false"]').waitFor();
    await stateBecomes(server.address, "off");
    // Samples of a window that is open come later: the stretch is shaded once one of it was judged.
    await page.locator(".legend-shade").first().waitFor({ timeout: 30_000 });
    await button.click();
    await page.locator('[role="switch"][aria-checked="true"]').waitFor();
    await stateBecomes(server.address, "learning");
    await page.getByRole("heading", { name: "Model against counting" }).waitFor();
    assert.deepEqual(complaints, []);
  });

  test("promise: the tables that the page Features gives as an example can be declared as they stand", async (context) => {
    const { page, complaints } = await open(context, "features");
    await page.getByText("No table is declared.").waitFor();
    // The server's own tables are no reason to leave the example out, and can be looked at.
    await page.locator('[data-table="activity.items"]').waitFor();
    assert.equal(await page.getByRole("button", { name: "Begin the import" }).count(), 0, "nothing to import into");
    await page.getByRole("button", { name: "activity.items", exact: true }).click();
    await page.getByText("It has none: the server counts it from events").waitFor();
    const folder = mkdtempSync(join(tmpdir(), "millrace-example-"));
    context.after(() => rmSync(folder, { recursive: true }));
    const path = join(folder, "tables.json");
    writeFileSync(path, (await page.locator(".notice pre").textContent())!);
    const { tables } = await readConfig(path, "feed");
    assert.equal(tables["items"]?.columns["embedding"]?.length, 64);
    assert.deepEqual(complaints, []);
  });

  test("the theme is chosen by a button and kept", async (context) => {
    const { page } = await open(context, "overview", { theme: "light" });
    const ground = (): Promise<unknown> => page.evaluate("getComputedStyle(document.documentElement).backgroundColor");
    const light = await ground();
    const button = page.locator(".theme");
    await button.click();
    assert.equal(await ground(), light);
    await button.click();
    assert.notEqual(await ground(), light);
    await page.reload();
    await page.locator("h1").waitFor();
    assert.notEqual(await ground(), light, "forgotten by a reload");
  });

  test("pages say what to do when the server is not ready, has no items, no model, or is gone", async (context) => {
    const state = { ready: false };
    const own = await startTestServer(context, {}, (gateway) => ({
      ...gateway,
      readiness: () => (state.ready ? gateway.readiness() : { ready: false, waiting: ["rebuilding: 3 of 7"] }),
    }));
    const { page, complaints } = await openPage(context, browser, own.http.address, "/");
    await page.getByText("It waits for: rebuilding: 3 of 7").waitFor();
    assert.deepEqual(await axeFindings(page), []);
    state.ready = true;
    await page.getByText("There are no items yet.").waitFor();
    assert.match(await page.locator("main").innerText(), /curl -X PUT http:\/\/127\.0\.0\.1:\d+\/v1\/items/);
    assert.equal((await own.send("PUT", "/v1/items", [{ id: "m-1", title: "Noodle night", category: "cooking" }, { id: "m-2" }])).status, 200);
    await cards(page).nth(1).waitFor();
    await clickCard(page, 0);
    await page.evaluate(`location.hash = "#/quality"`);
    await page.getByText("This server runs without a model.").waitFor();
    assert.deepEqual(await axeFindings(page), []);
    await page.evaluate(`location.hash = "#/features"`);
    await page.getByText("This server has no feature store.").waitFor();
    await page.evaluate(`location.hash = "#/parameters"`);
    await page.getByText("This server has no parameter tables.").waitFor();
    await page.evaluate(`location.hash = "#/pipelines"`);
    await page.getByLabel("Pipeline").selectOption("shop");
    await page.getByText("Not asked since the start.").waitFor();
    await own.http.drain(200);
    await page.locator('.server-state[data-state="bad"]').waitFor();
    await page.evaluate(`location.hash = "#/overview"`);
    await page.getByText("The server does not answer.").waitFor();
    assert.match(await page.locator("main").innerText(), /npm start/);
    assert.deepEqual(await axeFindings(page), []);
    assert.deepEqual(complaints, []);
  });
});
