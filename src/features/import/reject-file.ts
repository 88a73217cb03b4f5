// Rows that an import refused, one JSON object a line: {"input","row","key","column","reason","value"} (row from 1 within its input; line instead of row for what is no row).
// The file is the user's and holds values of the user; messages and logs never do.
// Limits: after `rejectsMax` refused rows the import gives up; values and keys are cut at importLimits.sampleCharactersMax.

import { MillraceError } from "#base/errors";
import type { Files, OpenFile } from "#platform/files";
import { importLimits } from "./import-limits.ts";

export interface Reject {
  readonly input: string;
  readonly row?: number;
  readonly line?: number;
  readonly key?: string;
  readonly column?: string;
  readonly reason: string;
  readonly value?: string;
}

export class RejectFile {
  count: number;
  bytes: number;
  readonly #file: OpenFile;
  readonly #max: number;
  readonly #path: string;
  #lines: string[] = [];
  #firstReason: string | undefined;

  constructor(file: OpenFile, path: string, at: { count: number; bytes: number }, max: number) {
    this.#file = file;
    this.#path = path;
    this.count = at.count;
    this.bytes = at.bytes;
    this.#max = max;
  }

  /** Throws `invalid` when there are more than the import may refuse; what was refused before is in the file. */
  async add(reject: Reject): Promise<void> {
    const cut = (text: string | undefined): string | undefined => text?.slice(0, importLimits.sampleCharactersMax);
    this.#lines.push(JSON.stringify({ ...reject, key: cut(reject.key), value: cut(reject.value) }));
    this.#firstReason ??= `${reject.column === undefined ? "" : `column ${reject.column}: `}${reject.reason}`;
    await this.#counted(1);
    if (this.#lines.length >= 1_000) await this.flush();
  }

  /** Refused rows that are only counted. */
  async addCount(count: number): Promise<void> {
    await this.#counted(count);
  }

  async #counted(count: number): Promise<void> {
    this.count += count;
    if (this.count <= this.#max) return;
    await this.flush();
    throw new MillraceError(
      "invalid",
      `${this.count} rows were refused, at most ${this.#max} are allowed (the first since the start: ${this.#firstReason ?? "see the file"})`,
      {
        todo: `look at ${this.#path}, correct the data or raise --rejects`,
      },
    );
  }

  async flush(): Promise<void> {
    if (this.#lines.length === 0) return;
    const bytes = new TextEncoder().encode(`${this.#lines.join("\n")}\n`);
    this.#lines = [];
    await this.#file.write(bytes, this.bytes);
    this.bytes += bytes.length;
  }

  async checkpoint(): Promise<number> {
    await this.flush();
    await this.#file.sync();
    return this.bytes;
  }
}

/** Of a reject file, as far as reasons are looked for. */
const reasonBytes = 64 << 10;

/** Why its first rows were refused, each reason once, with its column and without values: for the status of an import. Empty when it cannot be read. */
export async function refusalReasons(files: Files, path: string): Promise<string[]> {
  const file = await files.open(path, "read");
  if (file === undefined) return [];
  try {
    const bytes = new Uint8Array(reasonBytes);
    const text = new TextDecoder().decode(bytes.subarray(0, await file.read(bytes, 0)));
    // What follows the last line break is half a line, or nothing.
    const reasons = text
      .split("\n")
      .slice(0, -1)
      .map((line) => {
        const { column, reason } = JSON.parse(line) as Reject;
        return `${column === undefined ? "" : `column ${column}: `}${reason}`.slice(0, importLimits.sampleCharactersMax);
      });
    return [...new Set(reasons)].slice(0, importLimits.refusedWhyMax);
  } catch {
    // It is for people to look at, and must not stop an import.
    return [];
  } finally {
    await file.close();
  }
}
