// The console at `/`: the files that Vite built into console/build, read once at the start and served from memory.
// Why from memory: a few files of some 100 KiB together, and a request can name nothing that was not there at the start, so no path leads out of the folder.
// Invariants: 1. the pages ask nobody but this server; the content security policy makes the browser hold them to that  2. a file below /assets/ has the hash
// of its content in its name, so a browser may keep it for ever; `/` is asked for again each time and answered 304 when it is the same
// 3. without a built console the server runs all the same, and `/` says how to build it.
// Limits: `assetsMax` files of `assetBytesMax`, of the types in `contentTypes`; anything else in the folder is `corrupt`.

import { crc32c } from "#base/crc32c";
import { MillraceError } from "#base/errors";
import type { Files } from "#platform/files";
import { type Route, TextAnswer } from "./http-routes.ts";

const assetsMax = 64;
const assetBytesMax = 4 * 1024 * 1024;

const policy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "connect-src 'self'",
  "img-src 'self' data:",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join("; ");

const secure = { "content-security-policy": policy, "referrer-policy": "no-referrer", "cross-origin-opener-policy": "same-origin" };
const contentTypes: Readonly<Record<string, string>> = {
  js: "text/javascript; charset=utf-8",
  css: "text/css; charset=utf-8",
  svg: "image/svg+xml; charset=utf-8",
  txt: "text/plain; charset=utf-8",
};
const html = "text/html; charset=utf-8";

const notBuilt = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark"><title>millrace</title></head>
<body><main><h1>millrace runs, its console is not built</h1>
<p>In a clone of the repository: <code>npm install --include=dev</code>, then <code>node tools/build-console.mjs</code>, and start the server again. The packed millrace brings it.</p>
<p>Without it: <a href="/openapi.json">the API</a>, <a href="/v1/status">status</a>, <a href="/v1/pipelines">pipelines</a>, <a href="/metrics">metrics</a>, <a href="/health/ready">readiness</a>.</p>
</main></body></html>
`;

/** The routes of the console. `folder` is where it was built; nothing there makes a page that says so. Throws `corrupt` for a folder that no build made. */
export async function pageRoutes(from: Files, folder: string): Promise<Route[]> {
  const index = await readText(from, from.join(folder, "index.html"));
  const assets = index === undefined ? new Map<string, TextAnswer>() : await readAssets(from, from.join(folder, "assets"));
  const page = index ?? notBuilt;
  // Asked again with this tag, the page is 304: see `answer` in http-server.ts.
  const etag = `"${crc32c(new TextEncoder().encode(page)).toString(16)}-${page.length}"`;
  const answer = new TextAnswer(page, html, { ...secure, "cache-control": "no-cache", etag });
  return [
    { method: "GET", url: "/", tag: "server", summary: "The console", always: true, handle: () => answer },
    {
      method: "GET",
      url: "/assets/:file",
      tag: "server",
      summary: "A file of the console, by the name that its page gives it",
      always: true,
      handle({ params }) {
        const asset = assets.get(params["file"]!);
        if (asset !== undefined) return asset;
        throw new MillraceError("not-found", "the console has no such file", { todo: "load the page at / again; the server may have been updated since" });
      },
    },
  ];
}

async function readAssets(from: Files, folder: string): Promise<Map<string, TextAnswer>> {
  const assets = new Map<string, TextAnswer>();
  const names = (await from.list(folder)) ?? [];
  if (names.length > assetsMax) throw unusable(`${folder} holds more than ${assetsMax} files`);
  for (const name of names) {
    const contentType = contentTypes[name.slice(name.lastIndexOf(".") + 1)];
    if (contentType === undefined) throw unusable(`${from.join(folder, name)} is of no known type`);
    const text = await readText(from, from.join(folder, name));
    if (text === undefined) throw unusable(`${from.join(folder, name)} went away while it was read`);
    const headers = { ...secure, "cache-control": "public, max-age=31536000, immutable" };
    assets.set(name, new TextAnswer(text, contentType, headers));
  }
  return assets;
}

async function readText(from: Files, path: string): Promise<string | undefined> {
  const bytes = await from.readFile(path);
  if (bytes === undefined) return undefined;
  if (bytes.length > assetBytesMax) throw unusable(`${path} is larger than ${assetBytesMax} bytes`);
  return new TextDecoder().decode(bytes);
}

function unusable(what: string): MillraceError {
  return new MillraceError("corrupt", `the built console is not usable: ${what}`, {
    todo: "build it again (node tools/build-console.mjs), or install millrace again",
  });
}
