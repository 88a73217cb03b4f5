// A process of the bench param-sync: a machine that is trained and handed out, or one that follows it and scores.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Prng } from "#base/prng";
import { SlotRows } from "#extract/slot-rows";
import { KernelMemory } from "#kernel/kernel-memory";
import { kernels } from "#kernel/kernels";
import { FactorisationMachine, type FmOptions } from "#models/factorisation-machine";
import { FollowedModel, LedModel, modelNodeName } from "#models/model-sync";
import { systemClock } from "#platform/system-clock";
import { systemFiles } from "#platform/system-files";
import { systemNetwork } from "#platform/system-network";
import { zipfRanks } from "./work.ts";

export interface ScoredOptions {
  /** Zero of the times that are told, in nanoseconds of the machine's monotonic clock. */
  readonly base: string;
  /** Of other steps; undefined: this one follows. */
  readonly rowsPerS?: number;
  readonly source?: number;
}

/** Make step `push`, or tell when it shows. */
export interface ScoredOrder {
  readonly push: number;
}

export interface ScoredMessage {
  readonly port?: number;
  readonly atMs?: number;
  readonly logit?: number;
  readonly scores?: number;
  readonly otherRows?: number;
}

const rowsPerSample = 10;
const shape: FmOptions = {
  factors: 16,
  capacityRows: 262_144,
  seed: 7n,
  initialScale: 0.05,
  optimizer: "adagrad",
  rate: { linear: 0.05, factors: 0.02 },
  l2: { linear: 0, factors: 0 },
  initialAccumulator: 1,
};
const options = JSON.parse(process.argv[2]!) as ScoredOptions;
const base = BigInt(options.base);
const nowMs = (): number => Number((process.hrtime.bigint() - base) / 1_000n) / 1_000;
const tell = (message: ScoredMessage): void => void process.send!(message);
process.on("disconnect", () => process.exit(0));

const memory = KernelMemory.create({ dataBytes: FactorisationMachine.bytesFor(shape) + 4_096, lanes: 1, laneBytes: 1 << 20 }, kernels());
const machine = FactorisationMachine.create(memory, shape);
const sync = {
  machine,
  name: modelNodeName(1, shape),
  node: options.source === undefined ? 1 : 2,
  network: systemNetwork,
  clock: systemClock,
  random: new Prng(`model ${options.source ?? 0}`),
};

/** The sample that is pushed: rows that no other step touches. */
const probe = new SlotRows();
for (let slot = 0; slot < rowsPerSample; slot++) probe.addFull(slot, 0x7fff_0000, 1);
probe.endRow();
const logits = new Float32Array(1);
const score = (): number => {
  machine.evaluate(probe, logits);
  return logits[0]!;
};
const one = Float32Array.of(1);
const zero = Float32Array.of(0);

async function train(rowsPerS: number): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "millrace-model-"));
  process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
  const led = await LedModel.open(sync, systemFiles, folder);
  const step = (sample: SlotRows, label: Float32Array): void => {
    machine.learn(sample, label, one, zero, logits, new Uint32Array(1).fill(1));
    led.written();
  };
  step(probe, one);
  const ranks = zipfRanks("steps", 1 << 18);
  let made = 0;
  const other = new SlotRows();
  const started = performance.now();
  setInterval(() => {
    for (const due = ((performance.now() - started) / 1_000) * rowsPerS; made < due; made += rowsPerSample) {
      other.clear();
      other.addLinear(1, 1, 1);
      for (let slot = 1; slot < rowsPerSample; slot++) other.addFull(ranks[(made + slot) % ranks.length]!, 2, 1);
      other.endRow();
      step(other, zero);
    }
  }, 1);
  process.on("message", (message) => {
    const { push } = message as ScoredOrder;
    const atMs = nowMs();
    step(probe, push % 2 === 0 ? one : zero);
    tell({ atMs, logit: score(), otherRows: made });
  });
  tell({ port: await led.listen() });
}

async function follow(source: number): Promise<void> {
  const model = new FollowedModel(sync, [`127.0.0.1:${source}`], () => undefined);
  while (!model.usable) await systemClock.sleep(5);
  let [known, scores, asked] = [score(), 0, false];
  process.on("message", () => (asked = true));
  // Asked again and again, between what comes in.
  const turn = (): void => {
    const logit = score();
    scores++;
    if (asked && logit !== known) {
      tell({ atMs: nowMs(), logit, scores });
      known = logit;
      asked = false;
    }
    setImmediate(turn);
  };
  turn();
  tell({ scores });
}

await (options.source === undefined ? train(options.rowsPerS!) : follow(options.source));
