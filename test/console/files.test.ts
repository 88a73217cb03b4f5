// Guards how the server gives out the console: types, caching, policy, nothing outside the built files, and a page that helps where nothing was built.

import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { pageRoutes } from "#gateway/http-page";
import { TextAnswer } from "#gateway/http-routes";
import { systemFiles } from "#platform/system-files";
import { startTestServer } from "../http-server.ts";

const built = join(import.meta.dirname, "..", "..", "console", "build");

/** What a request of `path` calls, as the router would. */
async function answerOf(folder: string, url: "/" | "/assets/:file", file = ""): Promise<TextAnswer> {
  const routes = await pageRoutes(systemFiles, folder);
  const answer = routes.find((route) => route.url === url)!.handle({ params: { file }, query: {}, body: undefined, caller: "anonymous" });
  assert.ok(answer instanceof TextAnswer);
  return answer;
}

test("promise: the pages come with a policy that allows nothing from elsewhere", async (context) => {
  const { send } = await startTestServer(context);
  const page = await send("GET", "/");
  assert.equal(page.status, 200);
  assert.match(page.headers.get("content-type")!, /^text\/html/);
  const named = [...page.text.matchAll(/(?:src|href)="(\/assets\/[^"]+)"/g)].map((match) => match[1]!);
  assert.ok(
    named.some((path) => path.endsWith(".js")) && named.some((path) => path.endsWith(".css")),
    `the page names no script or style: ${named.join(", ")}`,
  );
  assert.doesNotMatch(page.text, /<style|<script(?![^>]* src=)|style="/, "nothing inline: the policy would stop it");
  const files = readdirSync(join(built, "assets")).map((name) => `/assets/${name}`);
  for (const path of ["/", ...new Set([...named, ...files])]) {
    const answered = await send("GET", path);
    assert.equal(answered.status, 200, path);
    const policy = answered.headers.get("content-security-policy") ?? "";
    assert.match(policy, /default-src 'none'.*script-src 'self'/);
    assert.doesNotMatch(policy, /unsafe|\*|https?:/);
    assert.equal(answered.headers.get("x-content-type-options"), "nosniff");
    // Names of XML vocabularies are no addresses to fetch.
    assert.doesNotMatch(answered.text, /https?:\/\/(?!127\.0\.0\.1|localhost|www\.w3\.org)/, `${path} names somebody else`);
    assert.equal((await send("HEAD", path)).text, "");
  }
});

test("promise: the console is at most 240 KiB, as files", () => {
  const paths = [join(built, "index.html"), ...readdirSync(join(built, "assets")).map((name) => join(built, "assets", name))];
  const bytes = paths.reduce((sum, path) => sum + statSync(path).size, 0);
  assert.ok(bytes <= 240 * 1_024, `${bytes} bytes`);
});

test("files with a hash in their name are kept for ever, the page is asked for again and answered 304", async (context) => {
  const { send } = await startTestServer(context);
  for (const name of readdirSync(join(built, "assets"))) {
    assert.match(name, /-[\w-]{8}\.\w+$/, "no hash in the name");
    const answered = await send("GET", `/assets/${name}`);
    assert.match(answered.headers.get("cache-control")!, /immutable/);
    assert.match(answered.headers.get("content-type")!, name.endsWith(".js") ? /^text\/javascript/ : /^text\/css/);
  }
  const first = await send("GET", "/");
  assert.equal(first.headers.get("cache-control"), "no-cache");
  const etag = first.headers.get("etag")!;
  const again = await send("GET", "/", undefined, { "if-none-match": etag });
  assert.deepEqual([again.status, again.text], [304, ""]);
  assert.equal((await send("GET", "/", undefined, { "if-none-match": `"other"` })).status, 200);
});

test("no path leads out of the built files", async (context) => {
  const { send } = await startTestServer(context);
  for (const path of [
    "..%2Findex.html",
    "%2e%2e%2fstamp",
    "..%5Cstamp",
    "stamp",
    "index.html",
    "__proto__",
    "constructor",
    "%00",
    ".gitignore",
    "none-12345678.js",
  ]) {
    const answered = await send("GET", `/assets/${path}`);
    assert.equal(answered.status, 404, path);
    assert.match(answered.headers.get("content-type")!, /json/);
  }
});

test("without a built console the server says how to build it", async () => {
  const folder = mkdtempSync(join(tmpdir(), "millrace-console-"));
  try {
    const page = await answerOf(join(folder, "none"), "/");
    assert.match(page.text, /node tools\/build-console\.mjs/);
    assert.match(page.text, /\/v1\/status/);
    await assert.rejects(answerOf(join(folder, "none"), "/assets/:file", "index-12345678.js"), { code: "not-found" });
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("a folder that no build made is refused", async () => {
  const folder = mkdtempSync(join(tmpdir(), "millrace-console-"));
  try {
    writeFileSync(join(folder, "index.html"), "<html></html>");
    mkdirSync(join(folder, "assets"));
    writeFileSync(join(folder, "assets", "secret.pem"), "");
    await assert.rejects(answerOf(folder, "/"), { code: "corrupt" });
  } finally {
    rmSync(folder, { recursive: true });
  }
});
