// Files of joined samples: what `millrace samples` writes and `millrace train` reads. Format: docs/format/sample-record.md.
// Invariants: 1. each sample lies under a CRC32C and is refused (`corrupt`) when it does not agree  2. a file that was cut ends with `corrupt`, behind all whole
// samples: nothing is lost in silence.
// Cost: one buffer of 1 MiB on either side. Limits: `sampleBytesMax` a sample.

import { ByteWriter } from "#base/byte-writer";
import { crc32c } from "#base/crc32c";
import { MillraceError } from "#base/errors";
import type { Files, OpenFile } from "#platform/files";
import { decodeSample, encodeSample, type JoinedSample } from "./sample-record.ts";

const magic = 0x4653524d; // "MRSF"
const version = 1;
const headBytes = 8;
const frameBytes = 8;
const chunkBytes = 1 << 20;

/** A log record holds 1 MiB, so what comes out of one is smaller. */
export const sampleBytesMax = 1 << 20;

export class SampleFileWriter {
  readonly #file: OpenFile;
  /** Samples that wait to be written, each a slice of it. */
  readonly #records = new ByteWriter(chunkBytes);
  #waiting: Uint8Array[] = [];
  #position = 0;
  #samples = 0;

  private constructor(file: OpenFile) {
    this.#file = file;
  }

  /** A new file; `conflict` when there is one already. */
  static async create(files: Files, path: string): Promise<SampleFileWriter> {
    const file = await files.open(path, "create");
    if (file === undefined) throw new MillraceError("conflict", `${path} is there already`, { todo: "name another file, or remove it first" });
    const writer = new SampleFileWriter(file);
    writer.#waiting.push(twoWords(magic, version));
    return writer;
  }

  get samples(): number {
    return this.#samples;
  }

  /** True when `drain` should be called before more is added. */
  get full(): boolean {
    return this.#records.length >= chunkBytes;
  }

  add(sample: JoinedSample): void {
    const from = this.#records.length;
    encodeSample(sample, this.#records);
    const bytes = this.#records.since(from);
    if (bytes.length > sampleBytesMax)
      throw new MillraceError("invalid", `a sample of ${bytes.length} bytes`, { todo: `keep samples within ${sampleBytesMax}` });
    this.#waiting.push(twoWords(bytes.length, crc32c(bytes)), bytes);
    this.#samples += 1;
  }

  async drain(): Promise<void> {
    const parts = this.#waiting;
    this.#waiting = [];
    await this.#file.writeAll(parts, this.#position);
    this.#position += parts.reduce((sum, { length }) => sum + length, 0);
    this.#records.clear();
  }

  async close(): Promise<void> {
    try {
      await this.drain();
      await this.#file.sync();
    } finally {
      await this.#file.close();
    }
  }
}

function twoWords(first: number, second: number): Uint8Array {
  const bytes = new Uint8Array(8);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, first, true);
  view.setUint32(4, second, true);
  return bytes;
}

/** The samples of a file, about 1 MiB at a time. `not-found`, `corrupt`, `unsupported`. */
export async function* readSampleFile(files: Files, path: string): AsyncGenerator<readonly JoinedSample[], void, void> {
  const file = await files.open(path, "read");
  if (file === undefined) throw new MillraceError("not-found", `there is no sample file ${path}`, { todo: "write one with millrace samples" });
  try {
    const head = new Uint8Array(headBytes);
    const view = new DataView(head.buffer);
    if ((await file.read(head, 0)) < headBytes || view.getUint32(0, true) !== magic) throw damaged(path, "it is no sample file");
    if (view.getUint32(4, true) !== version) {
      throw new MillraceError("unsupported", `sample file of version ${view.getUint32(4, true)}`, { todo: "use a newer millrace for it" });
    }
    let position = headBytes;
    for (;;) {
      const chunk = new Uint8Array(chunkBytes + sampleBytesMax + frameBytes);
      const got = await file.read(chunk, position);
      if (got === 0) return;
      const { samples, end } = readFrames(path, chunk, got, position);
      if (samples.length > 0) yield samples;
      if (end === 0) throw damaged(path, `it ends inside a sample, at byte ${position}`);
      position += end;
    }
  } finally {
    await file.close();
  }
}

/** Whole frames of a chunk, and where they end. */
function readFrames(path: string, chunk: Uint8Array, got: number, position: number): { samples: JoinedSample[]; end: number } {
  const view = new DataView(chunk.buffer);
  const samples: JoinedSample[] = [];
  let at = 0;
  while (at + frameBytes <= got) {
    const length = view.getUint32(at, true);
    if (length > sampleBytesMax) throw damaged(path, `a sample of ${length} bytes at byte ${position + at}`);
    const from = at + frameBytes;
    if (from + length > got) break;
    if (crc32c(chunk, 0, from, from + length) !== view.getUint32(at + 4, true)) throw damaged(path, `the checksum at byte ${position + at} does not agree`);
    samples.push(decodeSample(chunk.subarray(from, from + length)));
    at = from + length;
  }
  return { samples, end: at };
}

function damaged(path: string, what: string): MillraceError {
  return new MillraceError("corrupt", `sample file ${path}: ${what}`, { todo: "write it again with millrace samples" });
}
