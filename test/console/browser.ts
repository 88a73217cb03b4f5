// A headless Chromium for tests of the console, and a page in it that counts what must not happen: errors, messages of the content security policy, requests to
// others.

import { accessSync, constants, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { delimiter, join } from "node:path";
import type { TestContext } from "node:test";
import { type Browser, chromium, type Page } from "playwright-core";

const names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/** The first of the known browsers on PATH. */
export function findBrowser(): string | undefined {
  for (const folder of (process.env["PATH"] ?? "").split(delimiter)) {
    for (const name of names) {
      const path = join(folder, name);
      try {
        accessSync(path, constants.X_OK);
        return path;
      } catch {
        // Not here.
      }
    }
  }
  return undefined;
}

/** False where a browser was found, else why browser tests are skipped. */
export const skipWithoutBrowser: string | false = findBrowser() === undefined ? `no browser on PATH (${names.join(", ")})` : false;

/** With a user folder of its own, which goes with it. */
export function launchBrowser(): Promise<Browser> {
  return chromium.launch({
    executablePath: findBrowser()!,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
}

export interface Watched {
  readonly page: Page;
  /** What the browser complained of, and requests to others than `address`. */
  readonly complaints: string[];
}

export interface View {
  readonly width?: number;
  readonly height?: number;
  readonly theme?: "light" | "dark";
  readonly reducedMotion?: boolean;
}

/** A new visitor's page; closed after the test. */
export async function openPage(test: TestContext, browser: Browser, address: string, path: string, view: View = {}): Promise<Watched> {
  const context = await browser.newContext({
    viewport: { width: view.width ?? 1_280, height: view.height ?? 860 },
    colorScheme: view.theme ?? "light",
    reducedMotion: view.reducedMotion === false ? "no-preference" : "reduce",
  });
  test.after(() => context.close());
  // A loaded machine is slow; what never comes must still end before the file's time does.
  context.setDefaultTimeout(20_000);
  const page = await context.newPage();
  const complaints: string[] = [];
  page.on("pageerror", (error) => complaints.push(`error: ${error.message}`));
  page.on("console", (message) => {
    // A refused request is no mistake of the page: it shows what the server says.
    if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) complaints.push(`console: ${message.text()}`);
  });
  page.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith(address) && !url.startsWith("data:")) complaints.push(`asked ${url}`);
  });
  await page.goto(address + path);
  return { page, complaints };
}

let axeSource: string | undefined;

/** Rules of axe-core that look at colours: all that a second theme of a page already looked at can change. */
const colourRules = ["color-contrast", "link-in-text-block"];

/** What axe-core finds on the page as it stands, one line a finding. */
export async function axeFindings(page: Page, { coloursOnly = false }: { coloursOnly?: boolean } = {}): Promise<string[]> {
  axeSource ??= readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
  await page.evaluate(axeSource);
  interface Found {
    readonly violations: readonly { id: string; help: string; nodes: readonly { target: string[]; failureSummary?: string }[] }[];
  }
  // The pictures are hundreds of shapes that no reader is told of.
  const options = { resultTypes: ["violations"], ...(coloursOnly && { runOnly: { type: "rule", values: colourRules } }) };
  const found = await page.evaluate<Found>(`axe.run({ exclude: [".art"] }, ${JSON.stringify(options)})`);
  return found.violations.flatMap(({ id, help, nodes }) =>
    nodes.map(({ target, failureSummary }) => `${id}: ${help}: ${target.join(" ")}: ${(failureSummary ?? "").split("\n").slice(1).join(" ").trim()}`),
  );
}

/** Pixels by which the page is wider than its window. */
export function sidewaysPx(page: Page): Promise<number> {
  return page.evaluate<number>("document.documentElement.scrollWidth - document.documentElement.clientWidth");
}
