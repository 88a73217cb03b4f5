// `npm run build`: the published form in dist/, made before every `npm pack`.
//   dist/package.json     the same import names, mapped to the built files
//   dist/src/**           plain JavaScript with declarations (Node strips no types under node_modules), static files beside it
//   dist/kernels/build/   the WebAssembly kernels, where dist/src looks for them as src does
//   dist/console/build/   the console, likewise
// Why no bundler: the built form has the shape of the source, so that workers, static files and stack traces need no second rule.
// Invariant: dist is made anew each time; nothing of an older build stays.

import { execFileSync } from "node:child_process";
import { cpSync, globSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

const root = join(import.meta.dirname, "..");
const dist = join(root, "dist");

interface Manifest {
  readonly version: string;
  readonly type: string;
  readonly imports: Readonly<Record<string, string>>;
}

function run(script: string, ...args: string[]): void {
  execFileSync(process.execPath, [join(root, script), ...args], { cwd: root, stdio: ["ignore", 2, 2] });
}

function copy(pattern: string): number {
  const files = globSync(pattern, { cwd: root });
  for (const file of files) {
    mkdirSync(dirname(join(dist, file)), { recursive: true });
    cpSync(join(root, file), join(dist, file));
  }
  return files.length;
}

rmSync(dist, { recursive: true, force: true });
run("tools/build-kernels.mjs");
run("tools/build-console.mjs");
run("node_modules/typescript/bin/tsc", "-p", "tsconfig.build.json");

const { version, type, imports } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as Manifest;
const builtImports = Object.fromEntries(Object.entries(imports).map(([name, target]) => [name, target.replace(/\.ts$/, ".js")]));
writeFileSync(join(dist, "package.json"), `${JSON.stringify({ version, type, imports: builtImports }, null, 2)}\n`);

const kernels = copy("kernels/build/*.wasm");
if (kernels === 0) throw new Error("no kernel was built: is assemblyscript installed? Run npm install");
const pages = copy("console/build/{index.html,assets/*}");
if (pages < 3) throw new Error("the console was not built: is Vite installed? Run npm install");
const statics = copy("src/**/*.{html,css,js,json,svg}");
// Standard error: npm pack --json keeps standard output for itself.
console.error(`built dist: ${globSync("src/**/*.js", { cwd: dist }).length} modules, ${kernels} kernels, ${pages + statics} static files`);
