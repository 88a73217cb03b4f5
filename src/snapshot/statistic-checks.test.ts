// Guards that a declared limit refuses what it says, with the numbers in the reason, and nothing else.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Manifest } from "./manifest.ts";
import { checkDeclarations, defaultChecks, failedChecks, type StatisticCheck } from "./statistic-checks.ts";

const manifest = (statistics: Record<string, number>): Manifest => ({
  format: 1,
  kind: "table",
  name: "items",
  version: "20261122T084107123-k3dq",
  createdAtMs: 0,
  files: [{ name: "a", bytes: 100, crc32c: 0 }],
  statistics,
  meta: null,
});
const live = manifest({ rows: 1_000, "nulls.ctr": 10, "norm.mean": 1, zero: 0, negative: -10 });

test("limits, rates, falls and rises", () => {
  const cases: [StatisticCheck, Record<string, number>, RegExp | undefined][] = [
    [{ statistic: "rows", min: 500 }, { rows: 500 }, undefined],
    [{ statistic: "rows", min: 500 }, { rows: 499 }, /^rows is 499, at least 500 is wanted$/],
    [{ statistic: "rows", max: 500 }, { rows: 501 }, /^rows is 501, at most 500 is allowed$/],
    [{ statistic: "rows", fallMax: 0.2 }, { rows: 800 }, undefined],
    [{ statistic: "rows", fallMax: 0.2 }, { rows: 799 }, /^rows fell from 1000 to 799 \(by 20.1 %\), at most 20 % is allowed$/],
    [{ statistic: "rows", riseMax: 0.5 }, { rows: 1_500 }, undefined],
    [{ statistic: "rows", riseMax: 0.5 }, { rows: 1_501 }, /^rows rose from 1000 to 1501/],
    [{ statistic: "rows", fallMax: 0 }, { rows: 1_000 }, undefined],
    [{ statistic: "rows" as const, fallMax: 0.2, riseMax: 0.2 }, { rows: 1_100 }, undefined],
    [{ statistic: "nulls.ctr", per: "rows", max: 0.02 }, { rows: 1_000, "nulls.ctr": 20 }, undefined],
    [{ statistic: "nulls.ctr", per: "rows", max: 0.02 }, { rows: 1_000, "nulls.ctr": 21 }, /^nulls.ctr per rows is 0.021/],
    [{ statistic: "nulls.ctr", per: "rows", riseMax: 1 }, { rows: 1_000, "nulls.ctr": 21 }, /^nulls.ctr per rows rose from 0.01 to 0.021 \(by 110 %\)/],
    [{ statistic: "nulls.ctr", per: "rows", max: 0.02 }, { rows: 0, "nulls.ctr": 0 }, undefined],
    [{ statistic: "nulls.ctr", per: "rows", max: 0.02 }, { rows: 0, "nulls.ctr": 1 }, /Infinity/],
    [{ statistic: "nulls.ctr", per: "rows", max: 0.02 }, { "nulls.ctr": 1 }, /^nulls.ctr per rows was not measured$/],
    [{ statistic: "gone", min: 0 }, {}, /^gone was not measured$/],
    [{ statistic: "gone", min: 0, optional: true }, {}, undefined],
    [{ statistic: "negative", fallMax: 0.1 }, { negative: -12 }, /fell from -10 to -12 \(by 20 %\)/],
    [{ statistic: "zero", fallMax: 0 }, { zero: -5 }, undefined],
    [{ statistic: "unknown before", fallMax: 0 }, { "unknown before": 5 }, undefined],
    [{ statistic: "files", min: 2 }, {}, /^files is 1, at least 2 is wanted$/],
    [{ statistic: "bytes", fallMax: 0.1 }, {}, undefined],
    // A name that every object has is no statistic.
    [{ statistic: "constructor", min: 0 }, {}, /was not measured/],
  ];
  for (const [check, statistics, expected] of cases) {
    const what = `${JSON.stringify(check)} on ${JSON.stringify(statistics)}`;
    checkDeclarations([check]);
    const reasons = failedChecks(manifest(statistics), live, [check]);
    if (expected === undefined) assert.deepEqual(reasons, [], what);
    else {
      assert.equal(reasons.length, 1, what);
      assert.match(reasons[0]!, expected, what);
    }
  }
});

test("the first version is compared with nothing; the default refuses an empty one", () => {
  assert.deepEqual(failedChecks(manifest({ rows: 3 }), undefined, [{ statistic: "rows", fallMax: 0, riseMax: 0 }]), []);
  assert.deepEqual(failedChecks(manifest({ rows: 0 }), undefined, defaultChecks), ["rows is 0, at least 1 is wanted"]);
  assert.equal(failedChecks(manifest({ rows: 499 }), live, defaultChecks).length, 1);
  assert.deepEqual(failedChecks(manifest({}), live, defaultChecks), []);
});

test("checks that cannot be meant are refused", () => {
  const wrong: StatisticCheck[] = [
    { statistic: "rows" },
    { statistic: "", min: 1 },
    { statistic: "rows", min: Number.NaN },
    { statistic: "rows", fallMax: -0.1 },
    { statistic: "rows", fallMax: 20 },
    { statistic: "rows", riseMax: -1 },
    { statistic: "rows", per: "", max: 1 },
  ];
  for (const check of wrong) assert.throws(() => checkDeclarations([check]), { code: "invalid" }, JSON.stringify(check));
});
