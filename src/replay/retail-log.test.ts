// Guards the reading of purchase logs: baskets as the protocol defines them, and every row accounted for. SEED=n replays one run.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { gzipSync } from "node:zlib";
import { MillraceError } from "#base/errors";
import { Prng } from "#base/prng";
import { freshSeed } from "#platform/fresh-seed";
import { makeTemporaryFolder, systemFiles } from "#platform/system-files";
import { type Basket, type DropReason, RetailLog, retailHeader, type RowCounts } from "./retail-log.ts";

const folder = await makeTemporaryFolder("millrace-retail-");
after(() => systemFiles.removeFolder(folder));
let fileCount = 0;

async function written(content: string | Uint8Array): Promise<string> {
  fileCount += 1;
  const path = systemFiles.join(folder, `log-${fileCount}.csv`);
  await systemFiles.writeFileAtomic(path, typeof content === "string" ? new TextEncoder().encode(content) : content);
  return path;
}

async function readPath(path: string): Promise<{ baskets: Basket[]; counts: RowCounts; items: number }> {
  const log = new RetailLog({ files: systemFiles, path });
  const baskets: Basket[] = [];
  for await (const basket of log.baskets()) baskets.push(basket);
  return { baskets, counts: log.counts, items: log.items };
}

const read = async (content: string | Uint8Array): ReturnType<typeof readPath> => readPath(await written(content));

const header = retailHeader.join(",");
const row = (invoice: string, code: string, date: string, user = "1.0", quantity = "6", price = "2.55"): string =>
  `${invoice},${code},"A, NAMED ""THING""",${quantity},${date},${price},${user},United Kingdom`;
const first = "2010-12-01 08:26:00";
const second = "2010-12-01 08:30:00";

function dropped(counts: RowCounts): Partial<Record<DropReason, number>> {
  return Object.fromEntries(Object.entries(counts.dropped).filter(([, count]) => count > 0));
}

function checkSum(counts: RowCounts): void {
  assert.equal(counts.read, counts.kept + Object.values(counts.dropped).reduce((sum, count) => sum + count, 0));
}

const three = [row("1", "A", first), row("1", "B", second), row("1", "A", second), row("2", "B", second, "2.0")];

test("a basket is its invoice's rows: first customer, first date, distinct items", async () => {
  const { baskets, counts, items } = await read([header, ...three, ""].join("\n"));
  assert.deepEqual(
    baskets.map(({ invoice, user, timeMs, items: codes, itemNumbers, country }) => ({ invoice, user, timeMs, codes, itemNumbers, country })),
    [
      { invoice: "1", user: "1.0", timeMs: Date.UTC(2010, 11, 1, 8, 26), codes: ["A", "B"], itemNumbers: [0, 1], country: "United Kingdom" },
      { invoice: "2", user: "2.0", timeMs: Date.UTC(2010, 11, 1, 8, 30), codes: ["B"], itemNumbers: [1], country: "United Kingdom" },
    ],
  );
  assert.equal(items, 2);
  assert.equal(counts.noted.repeatedItem, 1);
  checkSum(counts);
});

test("packed, CRLF, byte order mark, no newline at the end: the same baskets", async () => {
  const plain = [header, ...three].join("\n");
  const expected = await read(`${plain}\n`);
  for (const content of [plain, `\ufeff${plain}\n`, `${plain}\n`.replaceAll("\n", "\r\n"), gzipSync(plain), gzipSync(`\ufeff${plain}\r\n`)]) {
    const { baskets, counts } = await read(content);
    assert.deepEqual(baskets, expected.baskets);
    assert.deepEqual(counts, expected.counts);
  }
});

test("promise: every row that a replay cannot use is counted under its reason", async () => {
  const bad: [DropReason, string][] = [
    ["too-long", `1,A,${"x".repeat(70_000)},1,${first},1,1.0,UK`],
    ["empty-line", ""],
    ["broken-quotes", `1,A,"never closed,1,${first},1,1.0,UK`],
    ["broken-quotes", `1,A,"closed"badly,1,${first},1,1.0,UK`],
    ["field-count", `1,A,thing,1,${first},1,1.0`],
    ["field-count", `1,A,un,quoted,1,${first},1,1.0,UK`],
    ["no-invoice", row("", "A", first)],
    ["no-customer", row("1", "A", first, "")],
    ["cancellation", row("C1", "A", first)],
    ["no-item", row("1", "", first)],
    ["bad-quantity", row("1", "A", first, "1.0", "six")],
    ["bad-quantity", row("1", "A", first, "1.0", "")],
    ["bad-price", row("1", "A", first, "1.0", "6", "2,55".replace(",", ";"))],
    ["bad-price", row("1", "A", first, "1.0", "6", "")],
    ["bad-date", row("1", "A", "12/1/2010 8:26")],
    ["bad-date", row("1", "A", "2011-02-30 08:26:00")],
    ["bad-date", row("1", "A", "2010-12-01 25:26:00")],
    ["time-leap", row("1", "A", "2110-12-01 08:26:00")],
    ["out-of-order", row("1", "A", "2010-12-01 08:25:59")],
  ];
  for (const [reason, line] of bad) {
    const { baskets, counts } = await read([header, three[0], line, ...three.slice(1), ""].join("\n"));
    assert.deepEqual(dropped(counts), { [reason]: 1 }, `${reason}: ${line.slice(0, 60)}`);
    assert.equal(counts.kept, 4);
    assert.deepEqual(
      baskets.map(({ items }) => items),
      [["A", "B"], ["B"]],
    );
    checkSum(counts);
  }
});

test("rows of several invoices between one another are sorted out, and noted", async () => {
  const { baskets, counts } = await read(
    [header, row("1", "A", first), row("2", "B", first, "2.0"), row("1", "C", second), row("2", "A", second, "3.0"), ""].join("\n"),
  );
  assert.deepEqual(
    baskets.map(({ invoice, user, items, itemNumbers }) => ({ invoice, user, items, itemNumbers })),
    [
      { invoice: "1", user: "1.0", items: ["A", "C"], itemNumbers: [0, 2] },
      { invoice: "2", user: "2.0", items: ["B", "A"], itemNumbers: [1, 0] },
    ],
  );
  assert.deepEqual(counts.noted, { repeatedItem: 0, otherCustomer: 1, interleaved: 2 });
  checkSum(counts);
});

test("an invoice that comes back after hours is late, not a second basket", async () => {
  const { baskets, counts } = await read(
    [header, row("1", "A", first), row("2", "B", "2010-12-01 11:00:00", "2.0"), row("1", "C", "2010-12-01 11:00:00"), ""].join("\n"),
  );
  assert.deepEqual(
    baskets.map(({ items }) => items),
    [["A"], ["B"]],
  );
  assert.deepEqual(dropped(counts), { "late-for-invoice": 1 });
  checkSum(counts);
});

test("one date far ahead does not make the rest look old; a real pause is no leap", async () => {
  const wrongFirst = await read([header, row("9", "Z", "2110-01-01 00:00:00"), ...three, ""].join("\n"));
  assert.deepEqual(dropped(wrongFirst.counts), { "time-leap": 1 });
  assert.equal(wrongFirst.baskets.length, 2);
  const pause = await read(
    [header, ...three, row("3", "D", "2011-06-01 00:00:00"), row("3", "E", "2011-06-01 00:01:00"), row("4", "F", "2012-06-01 00:00:00"), ""].join("\n"),
  );
  assert.deepEqual(dropped(pause.counts), {});
  assert.deepEqual(
    pause.baskets.map(({ items }) => items),
    [["A", "B"], ["B"], ["D", "E"], ["F"]],
  );
});

test("a header alone is a log without baskets; no header, no file and damage are refused", async () => {
  const none = await read(`${header}\n`);
  assert.deepEqual(none.baskets, []);
  assert.equal(none.counts.read, 0);
  const refused = (code: string) => (thrown: unknown) => thrown instanceof MillraceError && thrown.code === code;
  await assert.rejects(read(""), refused("invalid"));
  await assert.rejects(read(`${three.join("\n")}\n`), refused("invalid"));
  await assert.rejects(read("a\0b\0c"), refused("invalid"));
  await assert.rejects(readPath(systemFiles.join(folder, "missing.csv")), refused("not-found"));
  const packed = gzipSync([header, ...three].join("\n"));
  await assert.rejects(read(packed.subarray(0, packed.length - 9)), refused("corrupt"));
});

const seed = freshSeed();

test(`whatever happens to its bytes, every line of a log is kept or dropped, SEED=${seed}`, async () => {
  const random = new Prng(seed);
  const noise = ['"', ",", "\n", "\r", "x", "9", "-", "C", " "];
  for (let round = 0; round < 60; round += 1) {
    let body = "";
    let minute = 0;
    for (let invoice = 1; invoice < 30; invoice += 1) {
      minute += random.below(3);
      const date = `2010-12-01 ${String(8 + Math.floor(minute / 60)).padStart(2, "0")}:${String(minute % 60).padStart(2, "0")}:00`;
      for (let rows = random.below(5); rows >= 0; rows -= 1) body += `${row(String(invoice), `I${random.below(9)}`, date, `${invoice % 7}.0`)}\n`;
    }
    for (let damage = random.below(8); damage > 0; damage -= 1) {
      const at = random.below(body.length);
      body = body.slice(0, at) + noise[random.below(noise.length)]! + body.slice(at + random.below(3));
    }
    const { counts, baskets } = await read(`${header}\n${body}`);
    checkSum(counts);
    // A newline inside quotes joins two lines into one record: read is the lines, less those joined: at most two for each damage.
    const lines = body.split("\n").length - (body.endsWith("\n") ? 1 : 0);
    assert.ok(counts.read <= lines && counts.read >= lines - 16, `${counts.read} of ${lines}`);
    assert.ok(baskets.every((basket, index) => index === 0 || basket.timeMs >= baskets[index - 1]!.timeMs));
    assert.equal(
      counts.kept - counts.noted.repeatedItem,
      baskets.reduce((sum, basket) => sum + basket.items.length, 0),
    );
  }
});
