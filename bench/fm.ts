// The factorisation machine at work: learning from joined samples that lie in the log, and scoring candidates whose parameters are gathered.
// Arithmetic: a sample of 20 + 20 slots of 16 factors reads and writes 40 rows of 104 bytes, their neighbours' links and 40 accumulators of 68: some 350 cache lines when the
// table is beyond the caches, 10-20 ns each when they overlap, so 4-7 us; its bytes in the log are about 700. A candidate reads 20 index lines and 20
// rows of two lines: 60 lines, about 1 us (docs/design/params.md).
// Aggregation: CPU time of the whole process, rounds in turn, minima; keys of the scoring part are uniform over a million rows, the worst case
// (candidates that share a category or a tag share its lines).

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ByteWriter } from "#base/byte-writer";
import { Prng } from "#base/prng";
import { openEmbeddedLog } from "#backbone/embedded-log";
import { createMemoryRegistry } from "#backbone/memory-registry";
import { Extractor, type ExtractorDeclaration } from "#extract/extractor";
import { SlotRows } from "#extract/slot-rows";
import { KernelMemory } from "#kernel/kernel-memory";
import { kernelReport, kernels } from "#kernel/kernels";
import { FactorisationMachine, type FmOptions } from "#models/factorisation-machine";
import { systemClock } from "#platform/system-clock";
import { systemFiles } from "#platform/system-files";
import { decodeSample, encodeSample } from "#training/sample-record";
import { Trainer, trainingDefaults } from "#training/trainer";
import { alternatingRounds, Checksum, median, ownCpuMs, type Scenario } from "./harness.ts";

const partition = "samples";
const readBytes = 1 << 20;
const sideSlots = 20;
const candidates = 400;

const options = (capacityRows: number): FmOptions => ({
  factors: 16,
  capacityRows,
  seed: 2026n,
  initialScale: 0.05,
  optimizer: "adagrad",
  rate: { linear: 0.05, factors: 0.05 },
  l2: { linear: 0, factors: 0 },
  initialAccumulator: 0.1,
});

function newMachine(capacityRows: number): { memory: KernelMemory; machine: FactorisationMachine } {
  const memory = KernelMemory.create({ dataBytes: FactorisationMachine.bytesFor(options(capacityRows)) });
  return { memory, machine: FactorisationMachine.create(memory, options(capacityRows)) };
}

// ---- learning from the log ----

/** 20 user slots and 20 item slots, all with factors, beside the bias. */
const declaration: ExtractorDeclaration = {
  fields: [
    { name: "user", from: "user.id", kind: "id" },
    ...["country", "language", "device", "age"].map((name) => ({ name, from: `user.attributes.${name}`, kind: "id" as const })),
    { name: "pipeline", from: "context.pipeline", kind: "id" },
    { name: "recent", from: "user.recent", kind: "ids", max: 14 },
    { name: "item", from: "item.id", kind: "id" },
    { name: "category", from: "item.category", kind: "id" },
    { name: "state", from: "item.state", kind: "id" },
    ...["maker", "speech", "length", "colour", "price"].map((name) => ({ name, from: `item.attributes.${name}`, kind: "id" as const })),
    { name: "tags", from: "item.tags", kind: "ids", max: 12 },
  ],
};

/** Seeded samples with a taste to learn: a user of group g wants items of category g more often. */
function sampleBytes(extractor: Extractor, count: number): Uint8Array[] {
  const prng = new Prng("fm").fork("samples");
  const users = 100_000;
  const items = 30_000;
  const writer = new ByteWriter(1_024);
  // About Zipf: the square of a uniform number meets the front more often.
  const rank = (of: number): number => Math.floor(of * prng.float() ** 2);
  return Array.from({ length: count }, (_, n) => {
    const user = rank(users);
    const item = rank(items);
    const category = item % 40;
    const userBytes = extractor.encodeUser([
      `user-${user}`,
      `country-${user % 60}`,
      `language-${user % 20}`,
      `device-${user % 7}`,
      `age-${user % 8}`,
      "feed",
      { values: Array.from({ length: 14 }, () => `item-${rank(items)}`), weights: Array.from({ length: 14 }, (_, i) => 1 / (1 + i)) },
    ]);
    const itemBytes = extractor.encodeItem([
      `item-${item}`,
      `category-${category}`,
      "live",
      `maker-${item % 5_000}`,
      `speech-${item % 20}`,
      `length-${item % 9}`,
      `colour-${item % 12}`,
      `price-${item % 15}`,
      Array.from({ length: 12 }, (_, i) => `tag-${(item * 7 + i * 131) % 3_000}`),
    ]);
    writer.clear();
    encodeSample(
      {
        recommendationId: `r-${n}`,
        user: `user-${user}`,
        item: `item-${item}`,
        position: n % 20,
        label: prng.chance(user % 40 === category ? 0.6 : 0.1) ? 1 : 0,
        rate: 1,
        atMs: n,
        clockMs: n,
        extractorId: extractor.id,
        userBytes,
        itemBytes,
        signals: new Float32Array(0),
        servedLogit: Number.NaN,
        countingLogit: Number.NaN,
      },
      writer,
    );
    return writer.since(0).slice();
  });
}

// ---- scoring: slots drawn over all rows of a table ----

const keyOf = (row: number): readonly [number, number] => [Math.imul(row, 0x9e37_79b1) >>> 0, Math.imul(row, 0x85eb_ca6b) >>> 0];

function drawnRows(prng: Prng, rows: number, slots: number, of: number): SlotRows {
  const drawn = new SlotRows(rows, slots);
  for (let row = 0; row < rows; row++) {
    for (let slot = 0; slot < slots; slot++) {
      const [low, high] = keyOf(prng.below(of));
      drawn.addFull(low, high, 1);
    }
    drawn.endRow();
  }
  return drawn;
}

/** The same score in plain JavaScript: a Map of keys to rows and one Float32Array. */
function plainScorer(machine: FactorisationMachine, rowCount: number): (user: SlotRows, items: SlotRows, logits: Float32Array) => void {
  const numberOf = (low: number, high: number): number => low + (high & 0x1f_ffff) * 4_294_967_296;
  const rowOf = new Map<number, number>();
  const { dims } = machine.table;
  const values = new Float32Array(rowCount * dims);
  const keys = new Uint32Array(2 * rowCount);
  for (let row = 0; row < rowCount; row++) {
    const [low, high] = keyOf(row);
    keys.set([low, high], 2 * row);
    rowOf.set(numberOf(low, high), row * dims);
  }
  machine.table.pull(keys, rowCount, values);
  const userSums = new Float64Array(16);
  const sums = new Float64Array(16);
  return (user, items, logits) => {
    let squares = 0;
    let linear = 0;
    const add = (rows: SlotRows, slot: number, into: Float64Array): void => {
      const at = rowOf.get(numberOf(rows.keys[2 * slot]!, rows.keys[2 * slot + 1]!))!;
      const x = rows.weights[slot]!;
      for (let f = 0; f < 16; f++) {
        const y = values[at + f]! * x;
        into[f]! += y;
        squares += y * y;
      }
      linear += values[at + 16]! * x;
    };
    userSums.fill(0);
    for (let slot = 0; slot < user.slots; slot++) add(user, slot, userSums);
    const userSquares = squares;
    const userLinear = linear;
    for (let row = 0; row < items.rows; row++) {
      sums.set(userSums);
      squares = userSquares;
      linear = userLinear;
      for (let slot = items.offsets[row]!; slot < items.offsets[row + 1]!; slot++) add(items, slot, sums);
      let whole = 0;
      for (let f = 0; f < 16; f++) whole += sums[f]! * sums[f]!;
      logits[row] = linear + (whole - squares) / 2;
    }
  };
}

export const scenario: Scenario = {
  name: "fm",
  head:
    "a factorisation machine of 16 factors, AdaGrad: joined samples of 20 + 20 slots read from the log, decoded, extracted, predicted, judged, learned; " +
    "400 candidates of 20 slots a request scored over a million rows; CPU time of all threads, one core",
  async run({ quick, report, log }) {
    const count = quick ? 3_000 : 60_000;
    const rounds = quick ? 2 : 7;
    const extractor = Extractor.compile(declaration);
    const folder = mkdtempSync(join(tmpdir(), "millrace-fm-"));
    try {
      const embedded = openEmbeddedLog({
        files: systemFiles,
        clock: systemClock,
        registry: createMemoryRegistry({ clock: systemClock }),
        folder,
        durability: "none",
      });
      const records = sampleBytes(extractor, count);
      const writer = await embedded.openWriter(partition);
      for (let first = 0; first < count; first += 1_000) await writer.append(records.slice(first, first + 1_000));
      await writer.sync();
      const logBytes = records.reduce((sum, { length }) => sum + length, 0);
      const cpuMs: number[] = [];
      const sums = new Set<string>();
      let rowCount = 0;
      let logLoss = 0;
      for (let round = -1; round < rounds; round++) {
        const { machine } = newMachine(300_000);
        const trainer = new Trainer({
          options: { ...trainingDefaults, positiveTypes: ["click"] },
          extractor,
          machine,
          read: (offset, bytesMax) => embedded.read(partition, offset, bytesMax),
        });
        const before = ownCpuMs();
        for (let offset = 0; offset < count;) {
          const batch = (await embedded.read(partition, offset, readBytes))!;
          for (const record of batch.records) trainer.add(decodeSample(record));
          offset += batch.records.length;
        }
        trainer.flush();
        if (round >= 0) cpuMs.push(ownCpuMs() - before);
        rowCount = machine.rowCount;
        const checksum = new Checksum();
        for (const part of machine.save()) checksum.add(part);
        sums.add(checksum.hex());
        logLoss = lastLogLoss(machine, extractor, records.slice(-2_000));
        if (trainer.unreadable > 0 || machine.refused > 0 || machine.skipped > 0) throw new Error("samples were left out");
      }
      if (sums.size !== 1) throw new Error("two rounds over the same samples gave different parameters");
      log(
        `learned  ${count} samples of ${Math.round(logBytes / count)} bytes, ${rowCount} rows; checksum of the parameters ${[...sums][0]}; log loss ${logLoss.toFixed(4)}`,
      );
      report({
        metric: "fm_samples_per_core_s",
        value: (count * 1e3) / Math.min(...cpuMs),
        unit: "1/s",
        better: "higher",
        target: 40_000,
        detail: `log read, decode, extract, predict, judge, step; live variant ${kernelReport().live}; best of ${rounds} rounds, median ${Math.round((count * 1e3) / median(cpuMs))}`,
      });
      await writer.close();
      await embedded.close();
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }

    const tableRows = quick ? 20_000 : 1_000_000;
    const batches = quick ? 10 : 200;
    const { memory, machine } = newMachine(tableRows);
    const prng = new Prng("fm").fork("scores");
    const keys = new Uint32Array(2 * 1_000);
    const values = new Float32Array(1_000 * 17);
    for (let first = 0; first < tableRows; first += 1_000) {
      for (let i = 0; i < 1_000; i++) keys.set(keyOf(first + i), 2 * i);
      for (let i = 0; i < values.length; i++) values[i] = 0.1 * (prng.float() - 0.5);
      machine.table.assign(keys, 1_000, values);
    }
    const users = Array.from({ length: batches }, () => drawnRows(prng, 1, sideSlots, tableRows));
    const items = Array.from({ length: batches }, () => drawnRows(prng, candidates, sideSlots, tableRows));
    const logits = new Float32Array(candidates);
    const plain = plainScorer(machine, tableRows);
    const scalar = FactorisationMachine.attach(KernelMemory.attach(memory.memory, 0, kernels("scalar")), machine.at);
    const checksum = new Checksum();
    for (let n = 0; n < Math.min(20, batches); n++) {
      machine.score(users[n]!, items[n]!, logits);
      checksum.add(logits);
      const [twin, naive] = [new Float32Array(candidates), new Float32Array(candidates)];
      scalar.score(users[n]!, items[n]!, twin);
      plain(users[n]!, items[n]!, naive);
      for (let i = 0; i < candidates; i++) {
        if (twin[i] !== logits[i]) throw new Error("the scalar twin scores other bits");
        if (Math.abs(naive[i]! - logits[i]!) > 1e-5) throw new Error(`a score is wrong: ${logits[i]} for ${naive[i]}`);
      }
    }
    log(`checked  scores against the scalar twin and plain JavaScript; checksum ${checksum.hex()}`);
    const each = (score: typeof plain, from: number, to: number) => (): void => {
      for (let n = from; n < to; n++) score(users[n]!, items[n]!, logits);
    };
    // The slow ones do a tenth of the work.
    const few = Math.max(1, batches / 10);
    const samples = drawnRows(prng, 2_000, 2 * sideSlots, tableRows);
    const ones = new Float32Array(2_000).fill(1);
    const zeros = new Float32Array(2_000);
    const out = new Float32Array(2_000);
    const score = (user: SlotRows, rows: SlotRows, into: Float32Array): void => machine.score(user, rows, into);
    const learn = (): void => {
      for (let n = 0; n < (quick ? 1 : 5); n++) machine.learn(samples, n % 2 === 0 ? ones : zeros, ones, zeros, out);
    };
    const timed = await alternatingRounds(rounds, {
      score: each(score, 0, batches),
      scalar: each((user, rows, into) => scalar.score(user, rows, into), 0, few),
      plain: each(plain, 0, few),
      learn,
    });
    const perS = (name: "score" | "scalar" | "plain", work: number): number => (work * candidates * 1e3) / Math.min(...timed[name].cpuMs);
    const best = perS("score", batches);
    report({
      metric: "fm_candidates_per_core_s",
      value: best,
      unit: "1/s",
      better: "higher",
      target: 500_000,
      peer: `plain JavaScript (Map, Float32Array): ${Math.round(perS("plain", few)).toLocaleString("en-US")}`,
      detail: `20 user + 20 item slots of 16 floats, ${tableRows} rows, probe and gather inside; best of ${rounds} rounds, median ${Math.round((batches * candidates * 1e3) / median(timed.score.cpuMs))}`,
    });
    report({ metric: "fm_score_speedup_vs_scalar", value: best / perS("scalar", few), unit: "ratio", better: "higher" });
    report({ metric: "fm_score_speedup_vs_plain", value: best / perS("plain", few), unit: "ratio", better: "higher" });
    report({
      metric: "fm_steps_per_core_s",
      value: ((quick ? 1 : 5) * 2_000 * 1e3) / Math.min(...timed.learn.cpuMs),
      unit: "1/s",
      better: "higher",
      detail: `one prediction and step on 40 slots drawn over ${tableRows} rows, slots given`,
    });
    report({
      metric: "fm_bytes_per_row",
      value: FactorisationMachine.bytesFor(options(tableRows)) / tableRows,
      unit: "B",
      better: "lower",
      detail: "index, row with its version and links, AdaGrad state, all in; at full capacity",
    });
  },
};

/** Log loss of the trained model on samples it has seen: says that it has learned, no more. */
function lastLogLoss(machine: FactorisationMachine, extractor: Extractor, records: readonly Uint8Array[]): number {
  const rows = new SlotRows();
  const labels = records.map((record) => {
    const { userBytes, itemBytes, position, signals, label } = decodeSample(record);
    extractor.sampleSlots(userBytes, position, itemBytes, signals, rows);
    return label;
  });
  const logits = new Float32Array(records.length);
  machine.evaluate(rows, logits);
  return labels.reduce<number>((sum, label, i) => sum + Math.log1p(Math.exp(label === 1 ? -logits[i]! : logits[i]!)), 0) / labels.length;
}
