// Guards the documents: every command of docs/http-api.md and both examples work as they stand, against a real server.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { startTestServer } from "./http-server.ts";

const root = new URL("../", import.meta.url);

function run(command: string, ...args: string[]): Promise<{ code: number | null; output: string }> {
  return new Promise((resolve) => {
    const child = spawn(command, args, { cwd: root, stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    const take = (part: Buffer): void => void (output += part.toString());
    child.stdout.on("data", take);
    child.stderr.on("data", take);
    child.on("error", (error) => resolve({ code: null, output: String(error) }));
    child.on("close", (code) => resolve({ code, output }));
  });
}

const noCurl = (await run("curl", "--version")).code === 0 ? false : "curl is not installed";

test("every command of docs/http-api.md works as it stands", { skip: noCurl }, async (context) => {
  const server = await startTestServer(context, { model: true });
  const text = readFileSync(new URL("docs/http-api.md", root), "utf8");
  const blocks = Array.from(text.matchAll(/^```sh\n([^]*?)^```$/gm), (match) => match[1]!);
  const commands = blocks.join("\n").split("curl ").length - 1;
  assert.ok(commands >= 20, `${commands} commands`);
  // In one shell, in the order of the document, as a reader would.
  const script = `set -eu\ncurl() { command curl -sS --fail-with-body "$@"; echo; }\n${blocks.join("\n")}`.replaceAll(
    "http://127.0.0.1:8080",
    server.http.address,
  );
  const { code, output } = await run("sh", "-c", script);
  assert.equal(code, 0, output);
  assert.match(output, /"recommendationId"/);
  assert.match(output, /^(graph|flowchart) /m);
  const errors = readFileSync(new URL("docs/errors.md", root), "utf8");
  const named = JSON.parse(/```json\n([^]*?)```/.exec(errors)![1]!) as { error: object };
  const { json } = await server.send("POST", "/v1/recommend/home", { user: "a", n: 201 });
  assert.deepEqual(json, named, "the error that docs/errors.md shows is the one that comes");
});

test("the example with curl works", { skip: noCurl }, async (context) => {
  const server = await startTestServer(context);
  const { code, output } = await run("sh", "examples/first-event.sh", server.http.address);
  assert.equal(code, 0, output);
  assert.match(output, /"accepted":2.*\n.*"accepted":1.*\n.*"id":"m-2"/s);
});

test("the example with the client works", async (context) => {
  const server = await startTestServer(context);
  const { code, output } = await run(process.execPath, "examples/first-event.ts", server.http.address);
  assert.equal(code, 0, output);
  assert.match(output, /the click is in the log, offset \d+, .*\n.*m-[12] .* because: /);
});
