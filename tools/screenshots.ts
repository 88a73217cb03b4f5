// `npm run screenshots`: makes the pictures of docs/screenshots from the real server with the demo world, in a headless browser.
//   npm run screenshots                    about a minute and a half
//   npm run screenshots -- --warm-s 300    after five minutes of viewers, so that charts have something to show
// Why a script: pictures of an older console mislead; made by one command they are made again.

import { mkdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import type { Browser, Page } from "playwright-core";
import { findBrowser, launchBrowser } from "../test/console/browser.ts";
import { type DemoServer, startDemoServer } from "../test/console/demo-server.ts";

const { values: flags } = parseArgs({ options: { "warm-s": { type: "string", default: "60" } } });
const folder = join(import.meta.dirname, "..", "docs", "screenshots");

interface Picture {
  readonly name: string;
  readonly path: string;
  readonly theme: "light" | "dark";
  readonly width: number;
  readonly height: number;
  readonly act?: (page: Page) => Promise<void>;
}

async function click(page: Page, position: number): Promise<void> {
  await page.locator(".card-open").nth(position).click();
  await page.locator('.way [data-stage="answer"][data-state="seen"]').waitFor();
}

const pictures: readonly Picture[] = [
  {
    name: "be-a-user",
    path: "",
    theme: "light",
    width: 1_080,
    height: 720,
    async act(page) {
      await click(page, 5);
      await click(page, 2);
      await click(page, 4);
    },
  },
  {
    name: "why",
    path: "",
    theme: "dark",
    width: 1_080,
    height: 720,
    async act(page) {
      await click(page, 1);
      await click(page, 3);
      await page.getByRole("button", { name: /^why / }).first().click();
      await page.getByRole("heading", { name: "Reasons" }).waitFor();
    },
  },
  { name: "overview", path: "overview", theme: "light", width: 1_080, height: 760 },
  {
    name: "quality",
    path: "quality",
    theme: "dark",
    width: 1_080,
    height: 760,
    async act(page) {
      const training = page.getByRole("switch", { name: "Real-time training" });
      if ((await training.count()) === 0) return;
      await page.getByLabel("Show the last").selectOption("5");
    },
  },
  { name: "pipelines", path: "pipelines", theme: "light", width: 1_080, height: 760 },
  { name: "phone", path: "", theme: "dark", width: 360, height: 740, act: (page) => click(page, 1) },
];

async function take(browser: Browser, server: DemoServer, { name, path, theme, width, height, act }: Picture): Promise<void> {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme: theme, reducedMotion: "reduce" });
  const page = await context.newPage();
  await page.goto(`${server.address}/#/${path}`);
  await page
    .locator(path === "" ? ".card-open" : "main .panel, main .notice")
    .first()
    .waitFor();
  await act?.(page);
  await page.evaluate("scrollTo(0, 0)");
  await page.mouse.move(0, 0);
  // Figures of the last second, and the charts' next drawing.
  await sleep(3_000);
  const file = join(folder, `${name}.png`);
  await page.screenshot({ path: file });
  await context.close();
  console.log(`${name}.png  ${width} x ${height}, ${(statSync(file).size / 1024).toFixed(0)} KiB`);
}

if (findBrowser() === undefined) {
  console.log("no browser on PATH: install chromium, then run this again");
  process.exitCode = 1;
} else {
  mkdirSync(folder, { recursive: true });
  const server = await startDemoServer(["--rate", "20"]);
  const browser = await launchBrowser();
  try {
    console.log(`a server with the demo world; pictures after ${flags["warm-s"]} s`);
    await sleep(Number(flags["warm-s"]) * 1_000);
    for (const picture of pictures) await take(browser, server, picture);
  } finally {
    await browser.close();
    await server.stop();
  }
}
