// The graph as data and as Mermaid, and the refusals of `build` for flows that the types did not see.

import assert from "node:assert/strict";
import { test } from "node:test";
import { filter, hydrate, pipeline, score, source, topK } from "./index.ts";

const a = source<null>()("a", { sim: "f32", unused: "u8" }, () => {});
const b = source<null>()("b", { pop: { type: "f64", default: -1, merge: "sum" } }, () => {});
const names = hydrate<null>()("names", {}, { name: "str" }, () => {});
const sizes = hydrate<null>()("sizes", { pop: "f64" }, { size: "u32" }, () => {});
const small = filter<null>()('small "ones"', { size: "u32" }, () => {});
const rank = score<null>()("rank", { sim: "f32" }, { score: "f32" }, () => {});
const flow = pipeline<null>("home")
  .recall([a, b], { timeoutMs: 20, onError: "empty", quota: { a: 400 }, each: { b: { timeoutMs: 5 } } })
  .hydrate(names, { when: () => true })
  .hydrate(sizes, { onError: "skip", note: "from the catalogue" })
  .filter(small, { optional: true })
  .score(rank)
  .select(() => 20, topK())
  .fallback(pipeline<null>("popular").recall([b]).select(5, topK()).build());

test("the graph is plain data: nodes, edges, columns, policies, warnings", () => {
  const { graph } = flow.build({ output: ["name"] });
  assert.deepEqual(JSON.parse(JSON.stringify(graph)), graph);
  assert.deepEqual(
    graph.nodes.map((n) => ({ ...n, policy: JSON.stringify(n.policy) })),
    [
      { id: "a", kind: "source", stage: 1, group: 1, reads: [], writes: ["id", "sim", "unused"], policy: '{"onError":"empty","timeoutMs":20,"quota":400}' },
      { id: "b", kind: "source", stage: 1, group: 1, reads: [], writes: ["id", "pop"], policy: '{"onError":"empty","timeoutMs":5}' },
      { id: "names", kind: "hydrate", stage: 2, group: 2, reads: [], writes: ["name"], policy: '{"onError":"fail","conditional":true}' },
      { id: "sizes", kind: "hydrate", stage: 2, group: 2, reads: ["pop"], writes: ["size"], policy: '{"onError":"skip","note":"from the catalogue"}' },
      { id: 'small "ones"', kind: "filter", stage: 3, reads: ["size"], writes: [], policy: '{"onError":"fail","optional":true}' },
      { id: "rank", kind: "score", stage: 4, reads: ["sim"], writes: ["score"], policy: '{"onError":"fail"}' },
      { id: "top-k", kind: "select", stage: 5, reads: ["score"], writes: [], policy: '{"onError":"fail"}', k: "request" },
    ],
  );
  assert.deepEqual(
    graph.edges.map((e) => `${e.from}>${e.to}`),
    ["a>names", "a>sizes", "b>names", "b>sizes", 'names>small "ones"', 'sizes>small "ones"', 'small "ones">rank', "rank>top-k"],
  );
  assert.deepEqual(
    graph.columns.find((c) => c.name === "pop"),
    { name: "pop", type: "f64", default: -1, merge: "sum", writtenBy: ["b"], readBy: ["sizes"] },
  );
  assert.deepEqual(
    graph.warnings.map((w) => `${w.step}.${w.column}`),
    ["a.unused"],
  );
  assert.deepEqual(
    flow.build().graph.warnings.map((w) => `${w.step}.${w.column}`),
    ["a.unused", "names.name"],
  );
  assert.equal(graph.fallback?.pipeline, "popular");
});

test("Mermaid text draws every node, every edge, policies and the fallback", () => {
  const text = flow.build().mermaid();
  assert.match(text, /^flowchart TD\n/);
  assert.match(text, /n0\["source: a<br\/>quota 400, 20 ms, on error empty"\]/);
  assert.match(text, /n4\["filter: small #34;ones#34;"\]/);
  assert.match(text, /n6\["select: top-k \(k request\)"\]/);
  assert.match(text, /n0 --> n2\n {2}n0 --> n3/);
  assert.match(text, /nfend -\.->\|fallback\| nend/);
  for (const line of text.split("\n").slice(1)) assert.match(line, /^ {2}n\w+(\[".*"\]|\(\[".*"\]\)| -->? n\w+| -\.->\|fallback\| n\w+)$/);
});

test("build refuses what the types did not see, naming step and column", () => {
  // As a caller without types would: everything is let through by the compiler.
  // eslint-disable-next-line @typescript-eslint/no-explicit-any -- that is the point
  const free = (name = "p"): any => pipeline<null>(name);
  const h = (name: string, reads: object, writes: object) => hydrate<null>()(name, reads as never, writes as never, () => {});
  const cases: [RegExp, () => unknown][] = [
    [/has no recall/, () => free().build()],
    [/stands before any recall/, () => free().filter(small).build()],
    [/a recall stands after another kind of step/, () => free().recall([a]).hydrate(names).recall([b]).build()],
    [/a recall has no source/, () => free().recall([]).build()],
    [/column size of step small "ones" was written by nobody before it/, () => free().recall([a]).filter(small).build()],
    [
      /column sim of step x is read as u8 and was written as f32/,
      () =>
        free()
          .recall([a])
          .hydrate(h("x", { sim: "u8" }, {}))
          .build(),
    ],
    [
      /column sim of step x is u8 here and f32 before/,
      () =>
        free()
          .recall([a])
          .hydrate(h("x", {}, { sim: "u8" }))
          .build(),
    ],
    [/two steps are called names/, () => free().recall([a]).hydrate(names).hydrate(names).build()],
    [
      /the recall policy names vectr/,
      () =>
        free()
          .recall([a], { quota: { vectr: 1 } })
          .build(),
    ],
    [
      /the quota of a is no count/,
      () =>
        free()
          .recall([a], { quota: { a: 1.5 } })
          .build(),
    ],
    [/timeoutMs of step a is not above 0/, () => free().recall([a], { timeoutMs: 0 }).build()],
    [/k of select top-k is no count/, () => free().recall([a]).select(-1, topK()).build()],
    [
      /has a default of type string/,
      () =>
        free()
          .recall([a])
          .hydrate(h("x", {}, { y: { type: "f32", default: "1" } }))
          .build(),
    ],
    [
      /merges text by sum/,
      () =>
        free()
          .recall([a])
          .hydrate(h("x", {}, { y: { type: "str", merge: "sum" } }))
          .build(),
    ],
    [
      /has another default than before/,
      () =>
        free()
          .recall([b])
          .hydrate(h("x", {}, { pop: { type: "f64", default: 3 } }))
          .build(),
    ],
    [
      /has another merge rule than before/,
      () =>
        free()
          .recall([b])
          .hydrate(h("x", {}, { pop: { type: "f64", merge: "first" } }))
          .build(),
    ],
    [
      /step x writes id/,
      () =>
        free()
          .recall([a])
          .hydrate(h("x", {}, { id: "u32" }))
          .build(),
    ],
    [
      /source x declares sources/,
      () =>
        free()
          .recall([source<null>()("x", { sources: "u32" } as never, () => {})])
          .build(),
    ],
    [
      /output names nobody/,
      () =>
        free()
          .recall([a])
          .build({ output: ["nobody"] }),
    ],
    [
      /more than 32 sources/,
      () =>
        free()
          .recall(Array.from({ length: 33 }, (_, i) => source<null>()(`s${i}`, {}, () => {})))
          .build(),
    ],
    [
      /column sim of step small is f32 here and f64 before|column sim of step b2 is f64 here and f32 before|is read as/,
      () => {
        const other = source<null>()("b2", { sim: "f64" }, () => {});
        const bySim = filter<null>()("small", { sim: "f32" }, () => {});
        return free()
          .recall([a])
          .filter(bySim)
          .fallback(free("f").recall([other]).build())
          .build();
      },
    ],
  ];
  for (const [says, build] of cases) {
    assert.throws(build, (error: { code?: string; message: string }) => {
      assert.equal(error.code, "invalid");
      assert.match(error.message, says);
      return true;
    });
  }
});

test("a flow is a value: a common beginning can be shared", () => {
  const start = pipeline<null>("p").recall([a]);
  const one = start.score(rank).build();
  const two = start.hydrate(names).build();
  assert.deepEqual(
    [one.graph.nodes.map((n) => n.id), two.graph.nodes.map((n) => n.id)],
    [
      ["a", "rank"],
      ["a", "names"],
    ],
  );
});
