// Guards what a user gets from the registry: the packed tarball, installed into an empty folder in production mode, runs by itself, under the
// machine's own Node too, and drags in no build tools.

import assert from "node:assert/strict";
import { execFile, execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { after, before, suite, test, type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";

const root = join(import.meta.dirname, "..");
const scratch = mkdtempSync(join(tmpdir(), "millrace-pack-"));
const home = join(scratch, "home of a user");
after(() => rmSync(scratch, { recursive: true, force: true }));

const run = promisify(execFile);
/** Installing copies about 190 MB (the pinned Node); a loaded machine is slow at it. */
const installTimeoutMs = 90_000;

const startTimeoutMs = 60_000;

/** Why the tarball could not be installed, as npm says it; undefined once it is. */
let notInstalled: string | undefined;

/** What a user's shell has: nothing of this clone in PATH or in npm's variables. */
function userEnvironment(): NodeJS.ProcessEnv {
  const own = join(root, "node_modules");
  const path = (process.env["PATH"] ?? "").split(delimiter).filter((folder) => !folder.startsWith(own) && !folder.includes("node-gyp-bin"));
  const kept = Object.entries(process.env).filter(([name]) => !/^(npm_|INIT_CWD|NODE_|MILLRACE_)/.test(name) || name === "NODE_EXTRA_CA_CERTS");
  return { ...Object.fromEntries(kept), PATH: path.join(delimiter), NODE_ENV: "production" };
}

function lastLines(thrown: unknown): string {
  const { stderr = "", message } = thrown as { stderr?: string; message: string };
  return (stderr.trim() || message).split("\n").slice(-5).join(" | ");
}

/** npm is no part of Node's pinned package: it comes with the machine. */
function hasNpm(): boolean {
  try {
    execFileSync("npm", ["--version"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

interface Lockfile {
  readonly packages: Readonly<Record<string, { readonly dev?: boolean }>>;
}

/** Packages that only our devDependencies bring: in no place of the lockfile are they needed at run time. */
function developmentPackages(): string[] {
  const lock = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8")) as Lockfile;
  const places = Object.entries(lock.packages).filter(([path]) => path !== "");
  const nameOf = (path: string): string => path.slice(path.lastIndexOf("node_modules/") + "node_modules/".length);
  const needed = new Set(places.filter(([, { dev }]) => dev !== true).map(([path]) => nameOf(path)));
  return [...new Set(places.map(([path]) => nameOf(path)))].filter((name) => !needed.has(name));
}

/** Building, packing and installing take 40 s. */
const skip = process.env["MILLRACE_LONG"] === undefined ? "runs in `npm run test:long`, among the first" : hasNpm() ? false : "npm is not installed";

suite("the packed tarball", { skip }, () => {
  let listed: readonly string[] = [];

  before(async () => {
    mkdirSync(home);
    const packed = await run("npm", ["pack", "--json", "--pack-destination", scratch], { cwd: root, maxBuffer: 2 ** 26 });
    // Scripts of npm may print before the JSON.
    const [made] = JSON.parse(packed.stdout.slice(packed.stdout.indexOf("[\n"))) as { filename: string; files: { path: string }[] }[];
    assert.ok(made !== undefined);
    listed = made.files.map(({ path }) => path);
    writeFileSync(join(home, "package.json"), `{ "name": "shop", "private": true, "type": "module" }`);
    try {
      const args = ["install", "--prefer-offline", "--no-audit", "--no-fund", "--no-progress", join(scratch, made.filename)];
      await run("npm", args, { cwd: home, env: userEnvironment(), timeout: installTimeoutMs });
    } catch (thrown) {
      notInstalled = `npm cannot install here: ${lastLines(thrown)}`;
    }
  });

  /** False when the test was skipped. */
  function installed(t: TestContext): boolean {
    if (notInstalled !== undefined) t.skip(notInstalled);
    return notInstalled === undefined;
  }

  test("holds the built form and no sources, tests or data", () => {
    for (const path of ["package.json", "bin/millrace.js", "dist/package.json", "dist/src/cli/main.js", "LICENSE"])
      assert.ok(listed.includes(path), `${path} is missing`);
    assert.ok(
      listed.some((path) => /^dist\/kernels\/build\/.*\.wasm$/.test(path)),
      "no kernel",
    );
    assert.ok(listed.includes("dist/console/build/index.html") && listed.some((path) => /^dist\/console\/build\/assets\/.*\.js$/.test(path)), "no console");
    assert.deepEqual(
      listed.filter(
        (path) => !path.startsWith("examples/") && /^(src|test|bench|tools|data|node_modules)\/|\.test\.|\.contract\.|\/test-|(?<!\.d)\.ts$/.test(path),
      ),
      [],
    );
  });

  test("promise: the packed tarball runs in an empty folder, in production mode, whatever Node the machine has", async (t) => {
    if (!installed(t)) return;
    const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string };
    const { stdout } = await run(join(home, "node_modules", ".bin", "millrace"), ["--version"], { cwd: home, env: userEnvironment() });
    assert.equal(stdout.trim(), version);
  });

  test("promise: the packed server starts in an empty folder, becomes ready, and ends in order on SIGTERM", async (t) => {
    if (!installed(t)) return;
    const args = ["start", "--port", "0", "--resp-port", "0", "--data", join(home, "data"), "--rate", "5"];
    const server = spawn(join(home, "node_modules", ".bin", "millrace"), args, { cwd: home, env: userEnvironment(), stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    for (const stream of [server.stdout, server.stderr]) stream.setEncoding("utf8").on("data", (chunk: string) => (output += chunk));
    const ended = new Promise<string>((resolve) => server.once("exit", (code, signal) => resolve(signal ?? String(code))));
    try {
      const deadline = performance.now() + startTimeoutMs;
      let address: string | undefined;
      for (;;) {
        address ??= /listens on (http:\S+?),/.exec(output)?.[1];
        const answer = address === undefined ? undefined : await fetch(`${address}/health/ready`).catch(() => undefined);
        if (answer?.status === 200) break;
        assert.ok(performance.now() < deadline && server.exitCode === null, `not ready, it said:\n${output}`);
        await sleep(200);
      }
      const page = await fetch(`${address}/`);
      assert.equal(page.status, 200);
      const script = /src="(\/assets\/[^"]+\.js)"/.exec(await page.text());
      assert.ok(script !== null, "the page is not the console");
      assert.equal((await fetch(`${address}${script[1]}`)).status, 200);
      const metrics = await (await fetch(`${address}/metrics`)).text();
      assert.match(metrics, /^rec_build_info\{.*kernel="(relaxed|simd128)"/m, "the packed kernels were not found: the server runs plain TypeScript instead");
    } finally {
      server.kill("SIGTERM");
      const forced = setTimeout(() => server.kill("SIGKILL"), 15_000);
      await ended;
      clearTimeout(forced);
    }
    assert.equal(await ended, "0", output);
  });

  test("an application can import the client, under the machine's own Node", async (t) => {
    if (!installed(t)) return;
    const { stdout } = await run("node", ["--input-type=module", "-e", `console.log(Object.keys(await import("millrace")).length)`], {
      cwd: home,
      env: userEnvironment(),
    });
    assert.ok(Number(stdout) > 0, "the package exports nothing");
  });

  test("brings no development dependency", (t) => {
    if (!installed(t)) return;
    const forbidden = developmentPackages().filter((name) => existsSync(join(home, "node_modules", name)));
    assert.deepEqual(forbidden, []);
    assert.ok(readdirSync(join(home, "node_modules")).includes("millrace"));
  });
});
