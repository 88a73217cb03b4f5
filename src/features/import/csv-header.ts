// The first line of a CSV file: its delimiter and the names of its columns.
// Why ourselves: DuckDB's detection looks at many lines and decides by the majority, so a file with broken lines gets another shape than its header says.

import { MillraceError } from "#base/errors";
import { streamFile } from "#platform/file-stream";
import type { Files } from "#platform/files";
import { importLimits } from "./import-limits.ts";

const delimiters = [",", "\t", ";", "|"] as const;

export interface CsvHeader {
  readonly delimiter: string;
  readonly columns: readonly string[];
}

/** Throws `invalid` for a file without a header, `not-found` without a file. */
export async function readCsvHeader(files: Files, path: string): Promise<CsvHeader> {
  const decoder = new TextDecoder();
  let text = "";
  for await (const chunk of streamFile(files, path, { chunkBytes: 64 * 1_024 })) {
    text += decoder.decode(chunk, { stream: true });
    if (lineEnd(text) >= 0 || text.length > importLimits.headerBytesMax) break;
  }
  return parseCsvHeader(text.replace(/^\ufeff/, ""), path);
}

/** The end of the first line; line ends inside quotes do not count. -1 when it is not there. */
function lineEnd(text: string): number {
  let quoted = false;
  for (let at = 0; at < text.length; at++) {
    if (text[at] === '"') quoted = !quoted;
    else if (!quoted && (text[at] === "\n" || text[at] === "\r")) return at;
  }
  return -1;
}

/** The header that `text` begins with. */
export function parseCsvHeader(text: string, path: string): CsvHeader {
  const end = lineEnd(text);
  const line = end < 0 ? text : text.slice(0, end);
  const bad = (why: string): MillraceError =>
    new MillraceError("invalid", `the header of ${path} ${why}`, {
      todo: "begin a CSV file with the names of its columns, separated by comma, tab, semicolon or |",
    });
  if (line.trim() === "") throw bad("is empty");
  if (line.length >= importLimits.headerBytesMax) throw bad("has no end");
  const delimiter = delimiters.map((one) => ({ one, count: fieldsOf(line, one).length })).reduce((best, next) => (next.count > best.count ? next : best)).one;
  const columns = fieldsOf(line, delimiter);
  if (columns.some((name) => name === "")) throw bad("has a column without a name");
  const twice = columns.find((name, at) => columns.findIndex((other) => other.toLowerCase() === name.toLowerCase()) !== at);
  if (twice !== undefined) throw bad(`names ${JSON.stringify(twice.slice(0, 40))} twice`);
  return { delimiter, columns };
}

function fieldsOf(line: string, delimiter: string): string[] {
  const fields: string[] = [];
  let field = "";
  let quoted = false;
  for (let at = 0; at < line.length; at++) {
    const character = line[at]!;
    if (character === '"') {
      if (quoted && line[at + 1] === '"') {
        field += '"';
        at++;
      } else quoted = !quoted;
    } else if (character === delimiter && !quoted) {
      fields.push(field.trim());
      field = "";
    } else field += character;
  }
  fields.push(field.trim());
  return fields;
}
