// Builds the console (console/, Preact and uPlot) into console/build with Vite: static files that the server serves (never committed). npm runs it as
// `prepare`, after every `npm install`; `npm run build` and `npm test` run it too.
//   node tools/build-console.mjs           nothing to do when the files match their sources (a few milliseconds)
//   node tools/build-console.mjs --watch   builds again at every change, for work on the pages; reload the browser
// Plain JavaScript that Node 20 runs: at this moment npm may still be running under the machine's own Node.
// Without Vite (a production install) or where it cannot run here, it says that the console was not built and ends well: the server runs without it.
// A mistake in the sources of the console does fail.

import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const sources = join(root, "console");
const out = join(sources, "build");
const stampFile = join(out, "stamp");
const libraries = ["vite", "preact", "uplot"];

const options = {
  root: sources,
  configFile: false,
  envDir: false,
  logLevel: "warn",
  publicDir: false,
  cacheDir: join(root, "node_modules", ".cache", "vite"),
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    target: ["chrome123", "firefox128", "safari17.5"],
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
    reportCompressedSize: false,
    emptyOutDir: true,
  },
};

function sourceFiles() {
  if (!existsSync(join(sources, "index.html"))) return [];
  return readdirSync(sources, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .filter((path) => !path.startsWith(out))
    .sort();
}

/** Changes whenever a source, a library or an option changes. */
function stampOf(versions) {
  const hash = createHash("sha256");
  hash.update(JSON.stringify({ versions, options: { ...options, root: "", cacheDir: "" } }));
  for (const path of sourceFiles()) hash.update(`\n${path.slice(sources.length)}\n`).update(readFileSync(path));
  return hash.digest("hex");
}

function versionOf(name) {
  try {
    return JSON.parse(readFileSync(join(root, "node_modules", name, "package.json"), "utf8")).version;
  } catch {
    return undefined;
  }
}

/** Ends well: an installation without a console is a whole one. */
function notBuilt(why) {
  console.log(`console: not built, ${why}; the server runs without it and says so at /. To build it: npm install --include=dev`);
}

async function main() {
  if (sourceFiles().length === 0) return;
  const versions = libraries.map(versionOf);
  const missing = libraries.filter((_, at) => versions[at] === undefined);
  const built = existsSync(join(out, "index.html"));
  if (missing.length > 0) {
    if (!built) notBuilt(`${missing.join(", ")} ${missing.length === 1 ? "is" : "are"} not installed`);
    return;
  }
  const watch = process.argv.includes("--watch");
  const stamp = stampOf(versions);
  if (!watch && built && existsSync(stampFile) && readFileSync(stampFile, "utf8") === stamp) return;

  const started = performance.now();
  let vite;
  try {
    vite = await import("vite");
  } catch (error) {
    // Its compiler is a binary that npm may not have for this machine.
    if (built) console.log(`console: stays as it was built before, Vite does not run here (${firstLine(error)})`);
    else notBuilt(`Vite does not run here (${firstLine(error)})`);
    return;
  }
  if (watch) {
    await vite.build({ ...options, logLevel: "info", build: { ...options.build, outDir: out, watch: {} } });
    return;
  }
  // Beside, then renamed: a server that starts meanwhile reads the old files or the new ones.
  const beside = `${out}.${process.pid}.tmp`;
  try {
    await vite.build({ ...options, build: { ...options.build, outDir: beside } });
    writeFileSync(join(beside, ".gitignore"), "*\n");
    writeFileSync(join(beside, "stamp"), stamp);
    mkdirSync(out, { recursive: true });
    rmSync(out, { recursive: true });
    renameSync(beside, out);
  } finally {
    rmSync(beside, { recursive: true, force: true });
  }
  const sizes = readdirSync(join(out, "assets")).map(
    (name) => `${name.split(".").at(-1)} ${(readFileSync(join(out, "assets", name)).length / 1024).toFixed(0)} KiB`,
  );
  console.log(`console: built in ${((performance.now() - started) / 1000).toFixed(1)} s (${sizes.join(", ")})`);
}

function firstLine(error) {
  return String(error?.message ?? error).split("\n", 1)[0];
}

main().catch((error) => {
  console.error(`console: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
});
