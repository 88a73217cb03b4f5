// Guards what a user gets from the registry: the packed tarball, installed into an empty folder in production mode, runs by itself, under the
// machine's own Node too, and drags in no build tools.

import assert from "node:assert/strict";
import { execFile, execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { after, before, suite, test, type TestContext } from "node:test";
import { promisify } from "node:util";

const root = join(import.meta.dirname, "..");
const scratch = mkdtempSync(join(tmpdir(), "millrace-pack-"));
const home = join(scratch, "home of a user");
after(() => rmSync(scratch, { recursive: true, force: true }));

const run = promisify(execFile);
/** Installing copies about 190 MB (the pinned Node); a loaded machine is slow at it. */
const installTimeoutMs = 90_000;

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

/** Packages that only our devDependencies bring. */
function developmentPackages(): string[] {
  const lock = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8")) as Lockfile;
  return Object.entries(lock.packages).flatMap(([path, { dev }]) =>
    dev === true && path.startsWith("node_modules/") ? [path.slice("node_modules/".length)] : [],
  );
}

suite("the packed tarball", { skip: hasNpm() ? false : "npm is not installed" }, () => {
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
    assert.deepEqual(
      listed.filter((path) => /^(src|test|bench|tools|data|node_modules)\/|\.test\.|\.contract\.|(?<!\.d)\.ts$/.test(path)),
      [],
    );
  });

  test("promise: the packed tarball runs in an empty folder, in production mode, whatever Node the machine has", async (t) => {
    if (!installed(t)) return;
    const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string };
    const { stdout } = await run(join(home, "node_modules", ".bin", "millrace"), ["--version"], { cwd: home, env: userEnvironment() });
    assert.equal(stdout.trim(), version);
  });

  test("brings no development dependency", (t) => {
    if (!installed(t)) return;
    const forbidden = developmentPackages().filter((name) => existsSync(join(home, "node_modules", name)));
    assert.deepEqual(forbidden, []);
    assert.ok(readdirSync(join(home, "node_modules")).includes("millrace"));
  });
});
