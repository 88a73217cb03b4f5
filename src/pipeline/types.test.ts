// The promise of the typed builder: flows that do not fit together do not compile, and the message says why.
// Each fixture is a small module checked by the compiler itself, all in one program. A fixture that should fail and compiles is as much an error as the reverse.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import ts from "typescript";

const folder = fileURLToPath(new URL("./", import.meta.url));

/** Declarations all fixtures import: checked once. */
const shared = `
import { filter, hydrate, pipeline, score, source } from "./index.ts";
export * from "./index.ts";
export interface Home { readonly user: number }
export interface Search { readonly text: string }
export const vector = source<Home>()("vector", { sim: "f32" }, (_ctx, emit) => { const out = emit(1); out.id[0] = 1; out.sim[0] = 1; });
export const fresh = source<Home>()("fresh", { age: { type: "f64", default: 9 } }, (_ctx, emit) => void emit(0));
export const items = hydrate<Home>()("items", { id: "u32" }, { author: "u32", title: "str" }, () => {});
export const bySim = score<Home>()("by-sim", { sim: "f32" }, { score: "f32" }, (_ctx, batch, out) => out.score.set(batch.col("sim")));
export const byAuthor = filter<Home>()("by-author", { author: "u32" }, (_ctx, batch, keep) => { keep[0] = batch.col("author")[0]!; });
export const anyone = filter<unknown>()("anyone", {}, () => {});
export const home = pipeline<Home>("home").recall([vector, fresh]);
`;
const preamble = `
import { type Home, type Runner, type Search, anyone, byAuthor, bySim, filter, fresh, home, hydrate, items, pipeline, score, select, source, topK, vector, windowed } from "./fixture-shared.ts";
`;

interface Fixture {
  readonly name: string;
  readonly code: string;
  /** Texts the compiler's messages must contain; none: it must compile. */
  readonly says: readonly string[];
}

const unwritten = "this step reads a column nobody wrote before it";
const mistyped = "this step reads a column that was written with another type";

const fixtures: readonly Fixture[] = [
  {
    name: "a flow that fits",
    code: `
      const built = home.filter(anyone).hydrate(items).filter(byAuthor, { optional: true }).score(bySim, { onError: "skip", timeoutMs: 5 })
        .select((ctx) => ctx.req.user, windowed([{ by: "author", window: 3, max: 1 }, { by: "title", window: 9, max: 2 }])).select(5, topK())
        .fallback(pipeline<Home>("popular").recall([fresh]).select(3, topK()).build()).build({ output: ["author", "title"] });
      const run = async (runner: Runner) => {
        const result = await runner.run(built, { user: 1 });
        const author: Uint32Array = result.col("author"), title: string[] = result.col("title"), age: Float64Array = result.col("age"), bits: Uint32Array = result.col("sources");
        return [author, title, age, bits];
      };
      void run;`,
    says: [],
  },
  {
    name: "quotas and policies by source name",
    code: `pipeline<Home>("q").recall([vector, fresh], { quota: { vector: 4 }, each: { fresh: { onError: "empty" } } });`,
    says: [],
  },
  { name: "a step for any request", code: `pipeline<Search>("s").recall([source()("all", {}, (_c, emit) => void emit(1))]).filter(anyone);`, says: [] },
  { name: "a score can be read from the beginning", code: `home.filter(filter<Home>()("positive", { score: "f32" }, () => {}));`, says: [] },
  { name: "any type", code: `home.hydrate(items).select(3, select<Home>()("odd", { title: "any", age: "any" }, () => 0));`, says: [] },
  { name: "filter before the hydrator", code: `home.filter(byAuthor).hydrate(items);`, says: [unwritten, '"author"'] },
  { name: "score on a column of another recall", code: `pipeline<Home>("x").recall([fresh]).score(bySim);`, says: [unwritten, '"sim"'] },
  { name: "hydrate on a missing column", code: `home.hydrate(hydrate<Home>()("h", { nobody: "u8" }, {}, () => {}));`, says: [unwritten, '"nobody"'] },
  { name: "select by a missing column", code: `home.select(5, windowed({ by: "author", window: 2, max: 1 }));`, says: [unwritten, '"author"'] },
  { name: "the wrong type", code: `home.score(score<Home>()("s", { sim: "u32" }, { score: "f32" }, () => {}));`, says: [mistyped, '"sim"'] },
  { name: "a type that differs in its default form", code: `home.filter(filter<Home>()("f", { age: "f32" }, () => {}));`, says: [mistyped, '"age"'] },
  {
    name: "a column written again with another type",
    code: `home.hydrate(hydrate<Home>()("h", {}, { sim: "u8" }, () => {}));`,
    says: ["this step writes a column that was written before it with another type", '"sim"'],
  },
  {
    name: "a score of another type",
    code: `home.score(score<Home>()("s", {}, { score: "f64" }, () => {}));`,
    says: ["this step writes a column that was written before it with another type", '"score"'],
  },
  {
    name: "sources that disagree",
    code: `pipeline<Home>("x").recall([vector, source<Home>()("other", { sim: "u8" }, () => {})]);`,
    says: ["two sources write the same column with different types", '"sim"'],
  },
  {
    name: "a later recall that disagrees",
    code: `home.recall([source<Home>()("other", { sim: "u8" }, () => {})]);`,
    says: ["a source writes a column that was written before it with another type", '"sim"'],
  },
  { name: "a quota for a source that is not there", code: `pipeline<Home>("x").recall([vector, fresh], { quota: { vectr: 10 } });`, says: ["vectr"] },
  { name: "a policy for a source that is not there", code: `pipeline<Home>("x").recall([vector], { each: { fresh: { timeoutMs: 1 } } });`, says: ["fresh"] },
  {
    name: "a step of another request",
    code: `home.filter(filter<Search>()("text", {}, (ctx, _b, keep) => { keep[0] = ctx.req.text.length; }));`,
    says: ["Search"],
  },
  {
    name: "a fallback of another request",
    code: `home.fallback(pipeline<Search>("s").recall([source<Search>()("t", {}, (ctx) => void ctx.req.text)]).build());`,
    says: ["Search"],
  },
  { name: "a source of another request", code: `pipeline<Search>("x").recall([vector]);`, says: ["Search"] },
  {
    name: "reading an undeclared column in a step",
    code: `score<Home>()("s", { sim: "f32" }, { score: "f32" }, (_c, batch) => void batch.col("age"));`,
    says: ['"age"'],
  },
  {
    name: "writing an undeclared column in a step",
    code: `hydrate<Home>()("h", {}, { a: "u8" }, (_c, _b, out) => { out.b.fill(1); });`,
    says: ["'b' does not exist"],
  },
  { name: "emitting an undeclared column", code: `source<Home>()("s", { a: "u8" }, (_c, emit) => { emit(1).b.fill(1); });`, says: ["'b' does not exist"] },
  { name: "a source that writes id", code: `source<Home>()("s", { id: "u32" }, () => {});`, says: ["the framework itself writes this column", '"id"'] },
  {
    name: "a step that writes sources",
    code: `hydrate<Home>()("h", {}, { sources: "u32" }, () => {});`,
    says: ["the framework itself writes this column", '"sources"'],
  },
  { name: "a default of the wrong type", code: `source<Home>()("s", { a: { type: "f32", default: "much" } }, () => {});`, says: ["string"] },
  { name: "text merged by sum", code: `source<Home>()("s", { a: { type: "str", merge: "sum" } }, () => {});`, says: ["sum"] },
  { name: "a column type that is none", code: `source<Home>()("s", { a: "i64" }, () => {});`, says: ["i64"] },
  { name: "output of a column that is not there", code: `home.build({ output: ["nobody"] });`, says: ["nobody"] },
  {
    name: "a result column that is not there",
    code: `export const r = (runner: Runner) => runner.run(home.build(), { user: 1 }).then((x) => x.col("nobody"));`,
    says: ["nobody"],
  },
  { name: "a request of the wrong type", code: `export const r = (runner: Runner) => runner.run(home.build(), { text: "" });`, says: ["text"] },
  { name: "an asynchronous selector", code: `select<Home>()("s", {}, async () => 0);`, says: ["Promise"] },
];

/** What the example takes from Node's types, which are left out here because reading them would take longer than everything else. */
const exampleGlobals = "declare const console: { log(...values: unknown[]): void };\ninterface AbortSignal { readonly aborted: boolean }\n";

function exampleOf(document: string): string {
  const code = /^```ts\n([^]*?)^```$/m.exec(document)?.[1];
  assert.ok(code, "docs/design/pipeline.md begins with an example");
  return code;
}

test("promise: a flow that reads a column nobody wrote does not compile, and the message says so", () => {
  const options: ts.CompilerOptions = {
    target: ts.ScriptTarget.ESNext,
    module: ts.ModuleKind.NodeNext,
    moduleResolution: ts.ModuleResolutionKind.NodeNext,
    lib: ["lib.esnext.d.ts"],
    types: [],
    strict: true,
    noUncheckedIndexedAccess: true,
    exactOptionalPropertyTypes: true,
    skipLibCheck: true,
    noEmit: true,
    allowImportingTsExtensions: true,
  };
  const sources = new Map(fixtures.map((fixture, i) => [`${folder}fixture-${i}.ts`, preamble + fixture.code]));
  const sharedName = `${folder}fixture-shared.ts`;
  sources.set(sharedName, shared);
  const exampleName = `${folder}fixture-example.ts`;
  sources.set(exampleName, exampleGlobals + exampleOf(readFileSync(new URL("../../docs/design/pipeline.md", import.meta.url), "utf8")));
  const host = ts.createCompilerHost(options);
  const { fileExists, readFile, getSourceFile } = host;
  host.fileExists = (name) => sources.has(name) || fileExists(name);
  host.readFile = (name) => sources.get(name) ?? readFile(name);
  host.getSourceFile = (name, version, ...rest) => {
    const text = sources.get(name);
    return text === undefined ? getSourceFile(name, version, ...rest) : ts.createSourceFile(name, text, version);
  };
  const program = ts.createProgram([...sources.keys()], options, host);
  const check = (name: string): readonly ts.Diagnostic[] => {
    const file = program.getSourceFile(name);
    assert.ok(file, name);
    return [...program.getSyntacticDiagnostics(file), ...program.getSemanticDiagnostics(file)];
  };
  assert.deepEqual(check(sharedName), []);
  const inExample = check(exampleName).map((d) => ts.flattenDiagnosticMessageText(d.messageText, "\n"));
  assert.deepEqual(inExample, [], "the example of docs/design/pipeline.md must compile");
  for (const [i, { name, says }] of fixtures.entries()) {
    const diagnostics = check(`${folder}fixture-${i}.ts`);
    const messages = diagnostics.map((d) => ts.flattenDiagnosticMessageText(d.messageText, "\n")).join("\n");
    if (says.length === 0) assert.equal(messages, "", `${name} must compile`);
    else {
      assert.notEqual(messages, "", `${name} must not compile`);
      for (const text of says) assert.ok(messages.includes(text), `${name}: the message must contain ${text}, it is\n${messages}`);
      // A fixture shows one mistake; another error would mean that it fails for a reason it does not name.
      assert.equal(diagnostics.length, 1, `${name}: one error expected, it is\n${messages}`);
    }
  }
});
