// `npm run screenshots`: makes the pictures of docs/screenshots from the real server with the demo world, one feature table and parameter tables, in a headless browser.
//   npm run screenshots                    about two and a half minutes
//   npm run screenshots -- --warm-s 300    after five minutes of viewers, so that charts have something to show
//   npm run screenshots -- --only why,phone
// Why a script: pictures of an older console mislead; made by one command they are made again. A page that shows an error is no picture: it ends the script.

import { mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { Redis } from "ioredis";
import type { Browser, Page } from "playwright-core";
import { findBrowser, launchBrowser } from "../test/console/browser.ts";
import { type DemoServer, startDemoServer } from "../test/console/demo-server.ts";

const { values: flags } = parseArgs({ options: { "warm-s": { type: "string", default: "60" }, only: { type: "string" } } });
const folder = join(import.meta.dirname, "..", "docs", "screenshots");
/** What is imported; gone afterwards. */
const files = mkdtempSync(join(tmpdir(), "millrace-screenshots-"));
process.once("exit", () => rmSync(files, { recursive: true, force: true }));

interface Picture {
  readonly name: string;
  readonly path: string;
  readonly theme: "light" | "dark";
  readonly width: number;
  readonly height: number;
  readonly act?: (page: Page, server: DemoServer) => Promise<void>;
}

// ---- a feature table with two imports, read and written all the while ----

const rows = 50_000;
const keyOf = (row: number): string => `room-${row}`;
/** Repeatable, and even enough to look at. */
const scattered = (row: number): number => (Math.imul(row + 1, 2_654_435_761) >>> 0) / 2 ** 32;

const dim = 16;
const parameters = {
  tables: {
    users: { dim, memoryMb: 64, initialScale: 0.05, expireAfterS: 86_400, checkpoint: { everySeconds: 15 } },
    items: { dim, memoryMb: 16, initialScale: 0.05, admission: { sightings: 2 } },
  },
  models: { ctr: { tables: ["users", "items"], extractor: "7", quota: { pushedRowsPerS: 100_000 } } },
};

/** The configuration's path; beside it the files of two versions. */
function writeTables(into: string): string {
  const tables = {
    items: {
      key: "string",
      columns: {
        ctr: { type: "f32", owner: "stream", ttlHours: 24 },
        embedding: { type: "f32", length: 4, owner: "batch" },
        views: { type: "i64" },
        title: { type: "string" },
      },
    },
  };
  const titles = ["Tea at night", "Songs by request", "Noodles from scratch", "Morning run", "Chess, slowly"];
  for (const version of [1, 2]) {
    const lines = Array.from({ length: rows }, (_, row) => {
      const [a, b] = [scattered(row), scattered(row + version * rows)];
      const embedding = [a, b, 1 - a, 1 - b].map((value) => value.toFixed(3)).join(",");
      return `${keyOf(row)},"[${embedding}]",${Math.round(5_000 * a * b)},"${titles[row % titles.length]!}"`;
    });
    writeFileSync(join(into, `items-${version}.csv`), ["id,embedding,views,title", ...lines, ""].join("\n"));
  }
  const path = join(into, "tables.json");
  const rooms = { source: { files: [join(into, "items-1.csv")], vector: "embedding", attributes: ["views", "title"] }, schedule: { everySeconds: 30 } };
  const vectors = { tasks: { rooms } };
  writeFileSync(path, JSON.stringify({ tables, parameters, vectors, storage: { importFolders: [into] } }));
  return path;
}

async function post(server: DemoServer, path: string, body: object): Promise<void> {
  const response = await fetch(server.address + path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
  if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
}

/** Resolves when so many imports have ended. Throws when one failed, or after two minutes. */
async function importsEnded(server: DemoServer, count: number): Promise<void> {
  for (let tries = 0; tries < 240; tries++) {
    const jobs = (await (await fetch(`${server.address}/v1/imports`)).json()) as { stage: string; error?: string }[];
    const failed = jobs.find(({ stage }) => stage === "failed");
    if (failed !== undefined) throw new Error(`an import failed: ${failed.error ?? "no reason given"}`);
    if (jobs.filter(({ stage }) => stage === "done").length >= count) return;
    await sleep(500);
  }
  throw new Error("an import takes more than two minutes");
}

/** Until `signal`: batches of 50 keys, some rows more often than others, one key in a hundred not there; and live writes of a few of them. */
async function useTable(server: DemoServer, signal: AbortSignal): Promise<void> {
  for (let turn = 0; !signal.aborted; turn++) {
    const drawn = Array.from({ length: 50 }, (_, i) => scattered(50 * turn + i));
    const keys = drawn.map((value) => keyOf(value < 0.99 ? Math.floor((value / 0.99) ** 6 * rows) : rows));
    await post(server, "/v1/tables/items/read", { keys });
    const shown = keys.filter((_, i) => drawn[i]! < 0.2);
    await post(server, "/v1/tables/items/write", { rows: shown.map((key, i) => ({ key, values: { ctr: Number((scattered(turn + i) ** 3).toFixed(3)) } })) });
    await sleep(50);
  }
}

// ---- parameters, pulled and pushed all the while ----

/** Until `signal`: keys some more often than others, as users are, and two versions of a model. */
async function useParameters(server: DemoServer, signal: AbortSignal): Promise<void> {
  const { redis: port } = (await (await fetch(`${server.address}/v1/store`)).json()) as { redis: { port: number } };
  const redis = new Redis({ port: port.port, host: "127.0.0.1" });
  try {
    await redis.call("PMODEL", "REGISTER", "ctr", "TABLES", "2", "users", "items", "EXTRACTOR", "8", "LIVE");
    for (let turn = 0; !signal.aborted; turn++) {
      const count = 200 + Math.round(150 * Math.sin(turn / 40));
      const keys = Buffer.from(BigUint64Array.from({ length: count }, (_, i) => BigInt(1 + Math.floor(scattered(997 * turn + i) ** 5 * 60_000))).buffer);
      const steps = Buffer.from(Float32Array.from({ length: count * dim }, (_, i) => 0.01 * (scattered(i + turn) - 0.5)).buffer);
      await redis.call("PADD", "model:ctr/users", keys, steps);
      for (let pull = 0; pull < 3; pull++) await redis.call("PPULL", "model:ctr/users", keys);
      if (turn % 4 === 0) await redis.call("PADD", "model:ctr/items", keys.subarray(0, 8 * 20), steps.subarray(0, 4 * dim * 20));
      await sleep(40);
    }
  } finally {
    redis.disconnect();
  }
}

// ---- a collection, searched and written all the while ----

/** Until `signal`, once the collection is built: neighbours of rooms, some of them with a filter, and rooms that move. */
async function useVectors(server: DemoServer, signal: AbortSignal): Promise<void> {
  const { redis: port } = (await (await fetch(`${server.address}/v1/store`)).json()) as { redis: { port: number } };
  const redis = new Redis({ port: port.port, host: "127.0.0.1" });
  try {
    while (!signal.aborted && Number(await redis.call("VCARD", "rooms")) === 0) await sleep(500);
    for (let turn = 0; !signal.aborted; turn++) {
      const room = keyOf(Math.floor(scattered(turn) * rows));
      await redis.call("VSIM", "rooms", "ELE", room, "COUNT", "20", ...(turn % 5 === 0 ? ["FILTER", ".views > 2000"] : []));
      const moved = Array.from({ length: 4 }, (_, i) => scattered(4 * turn + i).toFixed(3));
      if (turn % 3 === 0) await redis.call("VADD", "rooms", "VALUES", "4", ...moved, room);
      await sleep(30);
    }
  } finally {
    redis.disconnect();
  }
}

// ---- the pictures ----

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
  {
    name: "overview",
    path: "overview",
    theme: "light",
    width: 1_080,
    height: 760,
    async act(page) {
      // Without the start, which is far above all that comes after it.
      await page.getByLabel("Show the last").selectOption("1");
    },
  },
  {
    name: "quality",
    path: "quality",
    theme: "dark",
    width: 1_080,
    height: 760,
    async act(page) {
      await page.getByRole("heading", { name: "Model against counting" }).waitFor();
      await page.getByLabel("Show the last").selectOption("5");
    },
  },
  { name: "pipelines", path: "pipelines", theme: "light", width: 1_080, height: 760 },
  {
    name: "features",
    path: "features",
    theme: "light",
    width: 1_080,
    height: 1_000,
    async act(page, server) {
      await page.getByRole("button", { name: "items", exact: true }).click();
      await sleep(20_000);
      await post(server, "/v1/imports", { table: "items", files: [join(files, "items-2.csv")] });
      await importsEnded(server, 2);
      await page.locator('[data-state="backup"][data-version]').waitFor();
      await sleep(15_000);
    },
  },
  {
    name: "parameters",
    path: "parameters",
    theme: "dark",
    width: 1_080,
    height: 1_500,
    act: () => sleep(45_000),
  },
  {
    name: "vectors",
    path: "vectors",
    theme: "light",
    width: 1_080,
    height: 1_700,
    async act(page) {
      await page.locator('[data-detail="rooms"] [data-verdict="live"]').first().waitFor({ timeout: 120_000 });
      await page.getByRole("button", { name: "rooms", exact: true }).first().click();
      await page.getByLabel("Near which element").fill(keyOf(7));
      await page.getByRole("button", { name: "Search", exact: true }).click();
      await sleep(45_000);
    },
  },
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
  await act?.(page, server);
  await page.evaluate("scrollTo(0, 0)");
  await page.mouse.move(0, 0);
  // Figures of the last second, and the charts' next drawing.
  await sleep(3_000);
  const trouble = await page.locator('.notice[data-kind="bad"]').allInnerTexts();
  if (trouble.length > 0) throw new Error(`${name}: the page shows ${trouble.join("; ")}`);
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
  const server = await startDemoServer(["--rate", "20", "--config", writeTables(files)]);
  const browser = await launchBrowser();
  const over = new AbortController();
  const using: Promise<void>[] = [];
  try {
    console.log(`a server with the demo world; pictures after ${flags["warm-s"]} s`);
    await post(server, "/v1/imports", { table: "items", files: [join(files, "items-1.csv")] });
    await importsEnded(server, 1);
    await sleep(Number(flags["warm-s"]) * 1_000);
    using.push(useTable(server, over.signal), useParameters(server, over.signal), useVectors(server, over.signal));
    // Told below, once the pictures are done.
    for (const one of using) one.catch(() => undefined);
    for (const picture of pictures.filter(({ name }) => flags.only === undefined || flags.only.split(",").includes(name))) await take(browser, server, picture);
  } finally {
    over.abort();
    for (const one of using) await one.catch((error: unknown) => console.log(`a table was not read to the end: ${String(error)}`));
    await browser.close();
    await server.stop();
  }
}
