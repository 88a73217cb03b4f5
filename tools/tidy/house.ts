// The house as data: which room stands on which floor, what is banned outside src/platform and what to use instead, which room may use which
// library. The rules themselves stand in source-rules.ts (one file at a time) and tree-rules.ts (files, documents, manifest).

export interface Ban {
  /** `process` = the global in any use; `Date.now` = that member; `new Date()` = only without arguments. */
  readonly name: string;
  /** What to use instead. */
  readonly instead: string;
  /** Rooms that may, besides platform. */
  readonly rooms?: readonly string[];
}

export interface Exception {
  readonly rule: string;
  readonly file: string;
  readonly reason: string;
}

export interface House {
  /** Rooms by floor, lowest first. A room imports from lower floors only. */
  readonly floors: readonly (readonly string[])[];
  readonly bans: readonly Ban[];
  /** Runtime libraries, by the rooms that may import them. */
  readonly libraries: Readonly<Record<string, readonly string[]>>;
  /** node: modules with I/O of their own that one file outside platform may import. */
  readonly builtins: Readonly<Record<string, string>>;
  /** Files that start something and are imported by nobody. */
  readonly entries: readonly RegExp[];
  /** Broken rules that stand for a reason. One that is no longer needed is a finding itself. */
  readonly exceptions: readonly Exception[];
}

const clock = "the Clock that is handed in (src/platform/clock.ts)";

export const house: House = {
  floors: [
    ["base"],
    ["platform"],
    ["kernel", "pipeline"],
    ["wire"],
    ["backbone", "functions", "rpc"],
    ["snapshot"],
    ["lsm", "params"],
    ["features", "vectors"],
    ["extract"],
    ["models"],
    ["commands", "training", "ranking"],
    ["gateway", "sdk"],
    ["demo", "replay"],
    ["roles"],
    ["cli"],
  ],
  bans: [
    { name: "Date.now", instead: `nowMs() of ${clock}` },
    { name: "new Date()", instead: `new Date(clock.nowMs()) with ${clock}` },
    { name: "performance", instead: `monotonicMs() of ${clock}` },
    { name: "setTimeout", instead: `after() or sleep() of ${clock}` },
    { name: "setInterval", instead: `after() of ${clock}, started again by its callback` },
    { name: "setImmediate", instead: `yield() of ${clock}` },
    { name: "AbortSignal.timeout", instead: `an AbortController and after() of ${clock}` },
    { name: "Math.random", instead: "a seeded generator of src/base/prng.ts that is handed in" },
    { name: "crypto", instead: "a seeded generator of src/base/prng.ts, or randomness handed in from src/platform" },
    { name: "process", instead: "what roles or cli hand in (arguments, environment, signals end there)", rooms: ["roles", "cli"] },
    { name: "console", instead: "the logger or output function that is handed in", rooms: ["roles", "cli"] },
    { name: "fetch", instead: "the client of src/sdk, or src/platform/network.ts", rooms: ["sdk"] },
    { name: "WebSocket", instead: "src/platform/network.ts" },
    { name: "Worker", instead: "src/platform/workers.ts" },
    { name: "require", instead: "an import" },
  ],
  libraries: {
    "@duckdb/node-api": ["features"],
    "@duckdb/node-bindings": ["features"],
    "@fastify/swagger": ["gateway"],
    "cli-progress": ["cli", "replay"],
    commander: ["cli"],
    fastify: ["gateway"],
    pino: ["gateway", "roles", "cli"],
    "prom-client": ["gateway", "roles"],
    typebox: ["wire", "gateway", "sdk"],
  },
  builtins: { "node:sqlite": "src/backbone/sqlite-registry.ts" },
  entries: [/^src\/cli\/main\.ts$/, /^src\/sdk\/index\.ts$/, /^bench\/[^/]+\.ts$/, /^examples\//, /\.(test|bench)\.ts$/, /\.d\.ts$/],
  exceptions: [],
};
