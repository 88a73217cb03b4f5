// The page at `/`: three static files beside this source, read once at the start and served from memory.
// Invariant: the page asks nobody but this server; the content security policy makes the browser hold it to that.

import { MillraceError } from "#base/errors";
import type { Files } from "#platform/files";
import { type Route, TextAnswer } from "./http-routes.ts";

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

const files = [
  { url: "/", file: "page.html", contentType: "text/html; charset=utf-8" },
  { url: "/page.css", file: "page.css", contentType: "text/css; charset=utf-8" },
  { url: "/page.js", file: "page.js", contentType: "text/javascript; charset=utf-8" },
] as const;

/** The routes of the page. `folder` holds its files; a missing one throws `corrupt`. */
export async function pageRoutes(from: Files, folder: string): Promise<Route[]> {
  const routes: Route[] = [];
  for (const { url, file, contentType } of files) {
    const path = from.join(folder, file);
    const bytes = await from.readFile(path);
    if (bytes === undefined) throw new MillraceError("corrupt", `the page's file ${path} is missing`, { todo: "install millrace again" });
    const answer = new TextAnswer(new TextDecoder().decode(bytes), contentType, { "content-security-policy": policy, "referrer-policy": "no-referrer" });
    routes.push({ method: "GET", url, tag: "server", summary: url === "/" ? "The page" : `The page's ${file.slice(5)}`, always: true, handle: () => answer });
  }
  return routes;
}
