// The bytes of the commands on many vectors, VSEARCH and VADDS, and what the HTTP routes of collections take and answer. Page: docs/format/vector-answer.md.
//
// Texts, little-endian (as KEYSBLOB of docs/tables.md): u32 count n, n + 1 bounds (u32, from the first text's byte on), the bytes of the texts.
// Answer of VSEARCH, little-endian, one bulk:
//   0  u32 magic "VSR1"          4  u8 metric (vectorMetrics)    5  u8 flags (1: attributes follow)    6  u16 bytes of the version's name
//   8  u32 queries q            12  u32 answers n               16  u32 bytes of the elements' texts  20  u32 bytes of the attributes' texts, 0 without
//  24  u32 x (q + 1): answers of query i are from[i] .. from[i + 1] - 1      f32 x n scores      texts of the elements      [texts of the attributes]      version
// Invariants: 1. every number stands at a multiple of 4 from the blob's begin: texts are followed by zeros up to one  2. what comes from outside is checked before it is believed.
// Cost: 100 answers 5 us to write, 10 to read.

import { MillraceError } from "#base/errors";

export const answerMagic = 0x3152_5356;
export const answerHeadBytes = 24;
export const vectorMetrics = { cosine: 0, ip: 1, l2: 2 } as const;
export type VectorMetricName = keyof typeof vectorMetrics;
export const answerFlags = { attributes: 1 } as const;

export const vectorCommandLimits = {
  /** Numbers of one VADDS or VSEARCH: what the serving loop copies in about a millisecond. */
  numbersMax: 1 << 20,
} as const;

const encoder = new TextEncoder();

const padded = (bytes: number): number => (bytes + 3) & ~3;

/** Encoded texts, the zeros behind them included. */
export function encodeTexts(texts: readonly string[]): Uint8Array<ArrayBuffer> {
  const count = texts.length;
  const headBytes = 4 * (count + 2);
  // Joined: a call of the encoder costs more than a short text. Where a character takes more than a byte each text is encoded by itself.
  const all = texts.join("");
  const ascii = new Uint8Array(padded(headBytes + all.length));
  const { read, written } = encoder.encodeInto(all, ascii.subarray(headBytes));
  if (read === all.length && written === all.length) {
    const words = new Uint32Array(ascii.buffer, 0, count + 2);
    words[0] = count;
    for (let i = 0, bound = 0; i < count; i++) words[i + 2] = bound += texts[i]!.length;
    return ascii;
  }
  const parts = texts.map((text) => encoder.encode(text));
  const bytes = new Uint8Array(padded(parts.reduce((sum, part) => sum + part.length, headBytes)));
  const words = new Uint32Array(bytes.buffer, 0, count + 2);
  words[0] = count;
  let bound = 0;
  for (const [i, part] of parts.entries()) {
    bytes.set(part, headBytes + bound);
    words[i + 2] = bound += part.length;
  }
  return bytes;
}

/** The texts of a block. `what` names it in errors. Throws `invalid` for bytes that are none, or no UTF-8; the zeros at the end may be left out. */
export function decodeTexts(bytes: Uint8Array, what: string, countMax: number): string[] {
  const refuse = (how: string): never => {
    throw new MillraceError("invalid", `${what} ${how}`, { todo: "send u32 count, count + 1 bounds, the bytes (docs/format/vector-answer.md)" });
  };
  if (bytes.length < 8) return refuse(`of ${bytes.length} bytes`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const count = view.getUint32(0, true);
  if (count > countMax) return refuse(`with ${count} texts, more than ${countMax}`);
  const headBytes = 4 * (count + 2);
  if (headBytes > bytes.length) return refuse("shorter than their bounds");
  const end = view.getUint32(headBytes - 4, true);
  if (view.getUint32(4, true) !== 0 || headBytes + end > bytes.length || bytes.length > padded(headBytes + end))
    return refuse("of another length than their bounds say");
  const body = bytes.subarray(headBytes, headBytes + end);
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  const texts = Array.from<string>({ length: count });
  try {
    const all = decoder.decode(body);
    const isAscii = all.length === end;
    for (let i = 0, from = 0; i < count; i++) {
      const to = view.getUint32(4 * (i + 2), true);
      if (to < from || to > end) return refuse("with bounds that do not grow");
      texts[i] = isAscii ? all.slice(from, to) : decoder.decode(body.subarray(from, to));
      from = to;
    }
  } catch (cause) {
    if (cause instanceof MillraceError) throw cause;
    return refuse("that are no UTF-8");
  }
  return texts;
}

/** The part of a search's answer that goes into the bytes. */
export interface VectorAnswer {
  readonly version: string;
  readonly from: Uint32Array;
  readonly elements: readonly string[];
  readonly scores: Float32Array;
  readonly attributes?: readonly (string | undefined)[];
}

/** The answer of VSEARCH. */
export function encodeAnswer(metric: VectorMetricName, { version, from, elements, scores, attributes }: VectorAnswer): Uint8Array<ArrayBuffer> {
  const named = encodeTexts(elements);
  const said = attributes === undefined ? undefined : encodeTexts(attributes.map((one) => one ?? ""));
  const itsVersion = encoder.encode(version);
  const answers = elements.length;
  const scoresAt = answerHeadBytes + 4 * from.length;
  const elementsAt = scoresAt + 4 * answers;
  const attributesAt = elementsAt + named.length;
  const versionAt = attributesAt + (said?.length ?? 0);
  const bytes = new Uint8Array(padded(versionAt + itsVersion.length));
  const view = new DataView(bytes.buffer);
  view.setUint32(0, answerMagic, true);
  view.setUint8(4, vectorMetrics[metric]);
  view.setUint8(5, said === undefined ? 0 : answerFlags.attributes);
  view.setUint16(6, itsVersion.length, true);
  view.setUint32(8, from.length - 1, true);
  view.setUint32(12, answers, true);
  view.setUint32(16, named.length, true);
  view.setUint32(20, said?.length ?? 0, true);
  new Uint32Array(bytes.buffer, answerHeadBytes, from.length).set(from);
  new Float32Array(bytes.buffer, scoresAt, answers).set(scores.subarray(0, answers));
  bytes.set(named, elementsAt);
  if (said !== undefined) bytes.set(said, attributesAt);
  bytes.set(itsVersion, versionAt);
  return bytes;
}

/** Attributes of an answer that was asked with them: undefined where an element has none. */
export interface DecodedAnswer extends VectorAnswer {
  readonly metric: VectorMetricName;
}

/** Reads an answer of VSEARCH. Throws `corrupt` for bytes that are none, `unsupported` for a later form. */
export function decodeAnswer(given: Uint8Array): DecodedAnswer {
  const broken = (what: string): MillraceError =>
    new MillraceError("corrupt", `an answer of VSEARCH that ${what}`, { todo: "look whether host and port are those of a millrace server" });
  // Views of words need their place in memory.
  const bytes = given.byteOffset % 4 === 0 ? given : new Uint8Array(given);
  if (bytes.length < answerHeadBytes) throw broken("is shorter than its head");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (view.getUint32(0, true) !== answerMagic) throw broken("does not begin as one");
  const number = view.getUint8(4);
  const metric = (Object.keys(vectorMetrics) as VectorMetricName[]).find((name) => vectorMetrics[name] === number);
  if (metric === undefined)
    throw new MillraceError("unsupported", `an answer of VSEARCH with metric ${number}`, { todo: "use the client of the server's version" });
  const [versionBytes, queries, answers, elementBytes, attributeBytes] = [
    view.getUint16(6, true),
    ...[8, 12, 16, 20].map((at) => view.getUint32(at, true)),
  ] as unknown as [number, number, number, number, number];
  const scoresAt = answerHeadBytes + 4 * (queries + 1);
  const elementsAt = scoresAt + 4 * answers;
  const attributesAt = elementsAt + elementBytes;
  const versionAt = attributesAt + attributeBytes;
  if (padded(versionAt + versionBytes) !== bytes.length || elementBytes % 4 !== 0 || attributeBytes % 4 !== 0)
    throw broken("has another length than its head says");
  const from = new Uint32Array(bytes.buffer, bytes.byteOffset + answerHeadBytes, queries + 1).slice();
  for (let i = 0; i < queries; i++) if (from[i + 1]! < from[i]!) throw broken("has bounds that do not grow");
  if (from[0] !== 0 || from[queries] !== answers) throw broken("has bounds of other answers");
  const texts = (at: number, length: number): string[] => {
    let read: string[];
    try {
      read = decodeTexts(bytes.subarray(at, at + length), "its texts", answers);
    } catch (cause) {
      throw broken(`has ${(cause as MillraceError).what}`);
    }
    if (read.length !== answers) throw broken(`has ${read.length} texts for ${answers} answers`);
    return read;
  };
  const withAttributes = (view.getUint8(5) & answerFlags.attributes) !== 0;
  return {
    metric,
    version: new TextDecoder().decode(bytes.subarray(versionAt, versionAt + versionBytes)),
    from,
    scores: new Float32Array(bytes.buffer, bytes.byteOffset + scoresAt, answers).slice(),
    elements: texts(elementsAt, elementBytes),
    ...(withAttributes ? { attributes: texts(attributesAt, attributeBytes).map((one) => (one === "" ? undefined : one)) } : {}),
  };
}
