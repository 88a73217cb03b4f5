// What a model sees, declared once: fields (where a raw value comes from, how it becomes slots) and crosses of two fields. Checked here, compiled by extractor.ts.
// Why data and not code: serving, training and files read the same declaration, and its hash says whether bytes of one were written for the other.
// Invariants: 1. a declaration that `checkDeclaration` lets pass can be compiled and its rows are bounded  2. every refusal is `invalid` and names the field
// 3. which sources exist is said here alone; what they mean is said by who fills them (docs/design/extract.md).
// Limits: `featureLimits`.

import { MillraceError } from "#base/errors";

export const featureLimits = {
  fieldsMax: 64,
  crossesMax: 32,
  /** Values of one `ids` field. */
  valuesMax: 256,
  valuesDefault: 32,
  boundsMax: 256,
  /** A longer text counts as missing; UTF-8 takes at most three times as many bytes. */
  valueCharactersMax: 1_024,
  valueBytesMax: 3 * 1_024,
  /** Numbers are cut to plus or minus this: beyond it a single one would push the model out of its mind. */
  numberMax: 1e6,
  /** Slots of one row, of all kinds; a factorisation machine takes no longer rows. */
  slotsMax: 1_024,
  /** An answer with more bytes of features is logged without them (a log record holds 1 MiB). */
  answerBytesMax: 768 * 1_024,
  /** Items of one answer. */
  answerItemsMax: 1_000,
} as const;

export type FieldKind = "id" | "ids" | "linear" | "bucket";

export interface FieldDeclaration {
  /** Unique among fields and crosses. */
  readonly name: string;
  /** User side: `user.id`, `user.attributes.X`, `user.recent`, `user.liked`, `context.hour`, `context.pipeline`, `context.position`.
   * Item side: `item.id`, `item.category`, `item.state`, `item.tags`, `item.attributes.X`, `signal.NAME`. */
  readonly from: string;
  /** `id`: one text, a slot of its own. `ids`: texts with weights, a slot each. `linear`: a number, the x of one linear-only slot. `bucket`: a number, the
   * slot of the bucket that it falls into. */
  readonly kind: FieldKind;
  /** ids: the first so many count; default 32. */
  readonly max?: number;
  /** bucket: ascending; a value falls into bucket `number of bounds <= value`. */
  readonly bounds?: readonly number[];
  /** id, ids, bucket: a weight without factors. */
  readonly linearOnly?: boolean;
  /** linear: the weight that a new model begins with; default 0. */
  readonly initial?: number;
}

/** A linear-only slot for each pair of values of a user-side and an item-side field, x = product of theirs. */
export interface CrossDeclaration {
  readonly name: string;
  /** Names: user-side field, item-side field; each of kind id, ids or bucket. */
  readonly cross: readonly [string, string];
}

export interface ExtractorDeclaration {
  readonly fields: readonly FieldDeclaration[];
  readonly crosses?: readonly CrossDeclaration[];
  /** The weight that the bias of a new model begins with; default 0. For a score that is no logit: together with `initial` of its field it makes one. */
  readonly initialBias?: number;
}

/** Which part of a row a field belongs to: what is asked once a request, the place in the answer, what stands in the item's document, what is worked out per
 * request and candidate. */
export type FieldPart = "user" | "position" | "item" | "signal";

const anyKind: readonly FieldKind[] = ["id", "ids", "linear", "bucket"];
const idOnly: readonly FieldKind[] = ["id"];
const listOnly: readonly FieldKind[] = ["ids"];
const numbers: readonly FieldKind[] = ["linear", "bucket"];

const sources = new Map<string, readonly [part: FieldPart, kinds: readonly FieldKind[]]>([
  ["user.id", ["user", idOnly]],
  ["user.recent", ["user", listOnly]],
  ["user.liked", ["user", listOnly]],
  ["context.hour", ["user", ["id", "linear", "bucket"]]],
  ["context.pipeline", ["user", idOnly]],
  ["context.position", ["position", numbers]],
  ["item.id", ["item", idOnly]],
  ["item.category", ["item", idOnly]],
  ["item.state", ["item", idOnly]],
  ["item.tags", ["item", listOnly]],
]);

const families: readonly (readonly [pattern: RegExp, part: FieldPart, kinds: readonly FieldKind[]])[] = [
  [/^user\.attributes\.[\s\S]{1,64}$/, "user", anyKind],
  [/^item\.attributes\.[\s\S]{1,64}$/, "item", anyKind],
  [/^signal\.[a-z][A-Za-z0-9]{0,63}$/, "signal", numbers],
];

function sourceOf(from: string): readonly [part: FieldPart, kinds: readonly FieldKind[]] | undefined {
  const known = sources.get(from);
  if (known !== undefined) return known;
  const family = families.find(([pattern]) => pattern.test(from));
  return family === undefined ? undefined : [family[1], family[2]];
}

/** The part of a checked field. */
export function partOf(field: FieldDeclaration): FieldPart {
  return sourceOf(field.from)![0];
}

/** Slots that a field gives at most. */
export function slotsMaxOf(field: FieldDeclaration): number {
  return field.kind === "ids" ? (field.max ?? featureLimits.valuesDefault) : 1;
}

/** Throws `invalid` when the declaration cannot be compiled, naming the field and what to do. */
export function checkDeclaration(declaration: ExtractorDeclaration): void {
  const { fields, crosses = [], initialBias = 0 } = declaration;
  if (!Number.isFinite(initialBias)) throw new MillraceError("invalid", `an extractor with initialBias ${initialBias}`, { todo: "use a finite number" });
  if (!Array.isArray(fields) || fields.length < 1 || fields.length > featureLimits.fieldsMax) {
    throw new MillraceError("invalid", `an extractor of ${Array.isArray(fields) ? fields.length : "no list of"} fields`, {
      todo: `declare 1 to ${featureLimits.fieldsMax}`,
    });
  }
  if (!Array.isArray(crosses) || crosses.length > featureLimits.crossesMax) {
    throw new MillraceError("invalid", `crosses: ${Array.isArray(crosses) ? crosses.length : "no list"}`, {
      todo: `declare at most ${featureLimits.crossesMax}`,
    });
  }
  const byName = new Map<string, FieldDeclaration>();
  for (const field of fields as readonly FieldDeclaration[]) {
    checkName(field.name, byName.has(field.name), "field");
    checkField(field);
    byName.set(field.name, field);
  }
  let slots = 1 + [...byName.values()].reduce((sum, field) => sum + slotsMaxOf(field), 0);
  const crossNames = new Set<string>();
  for (const cross of crosses as readonly CrossDeclaration[]) {
    checkName(cross.name, byName.has(cross.name) || crossNames.has(cross.name), "cross");
    crossNames.add(cross.name);
    const [user, item] = checkCross(cross, byName);
    slots += slotsMaxOf(user) * slotsMaxOf(item);
  }
  if (slots > featureLimits.slotsMax) {
    throw new MillraceError("invalid", `an extractor whose rows may have ${slots} slots`, {
      todo: `lower max of ids fields or cross smaller ones: at most ${featureLimits.slotsMax}`,
    });
  }
}

function refuse(what: string, todo: string): MillraceError {
  return new MillraceError("invalid", what, { todo });
}

function checkName(name: unknown, taken: boolean, what: string): void {
  if (typeof name !== "string" || !/^[a-z][A-Za-z0-9_-]{0,63}$/.test(name)) {
    throw refuse(`${what} name ${JSON.stringify(name)}`, "begin with a-z and use 1 to 64 letters, digits, _ and -");
  }
  if (taken) throw refuse(`${what} "${name}" is declared twice`, "give each field and cross a name of its own");
}

function checkField(field: FieldDeclaration): void {
  const { name, from, kind, max, bounds, linearOnly, initial } = field;
  const source = typeof from === "string" ? sourceOf(from) : undefined;
  if (source === undefined) {
    const known = [...sources.keys(), "user.attributes.NAME", "item.attributes.NAME", "signal.NAME"].join(", ");
    throw refuse(`field "${name}": there is nothing to read from ${JSON.stringify(from)}`, `use one of ${known}`);
  }
  const kinds = source[1];
  if (!kinds.includes(kind)) throw refuse(`field "${name}": kind ${JSON.stringify(kind)} of ${from}`, `${from} can be ${kinds.join(", ")}`);
  if (max !== undefined) {
    if (kind !== "ids") throw refuse(`field "${name}": max of kind ${kind}`, "only ids have one");
    if (!Number.isInteger(max) || max < 1 || max > featureLimits.valuesMax) {
      throw refuse(`field "${name}": max ${max}`, `use 1 to ${featureLimits.valuesMax}`);
    }
  }
  if (kind === "bucket") checkBounds(name, bounds);
  else if (bounds !== undefined) throw refuse(`field "${name}": bounds of kind ${kind}`, "only buckets have them");
  if (linearOnly !== undefined && kind === "linear") throw refuse(`field "${name}": linearOnly of kind linear`, "leave it out: linear is linear-only");
  if (initial !== undefined) {
    if (kind !== "linear") throw refuse(`field "${name}": initial of kind ${kind}`, "only linear fields begin with a weight");
    if (!Number.isFinite(initial)) throw refuse(`field "${name}": initial ${initial}`, "use a finite number");
  }
}

function checkBounds(name: string, bounds: readonly number[] | undefined): void {
  if (!Array.isArray(bounds) || bounds.length < 1 || bounds.length > featureLimits.boundsMax) {
    throw refuse(`field "${name}": a bucket without bounds, or with too many`, `give 1 to ${featureLimits.boundsMax} ascending numbers`);
  }
  for (let at = 0; at < bounds.length; at += 1) {
    // As stored, in f32: two bounds that fall together there would leave a bucket that nothing reaches.
    const bound = Math.fround(bounds[at] as number);
    if (!Number.isFinite(bound) || (at > 0 && bound <= Math.fround(bounds[at - 1] as number))) {
      throw refuse(`field "${name}": bounds[${at}] = ${String(bounds[at])}`, "give finite numbers in ascending order, apart in 32-bit floats");
    }
  }
}

function checkCross(cross: CrossDeclaration, byName: ReadonlyMap<string, FieldDeclaration>): [user: FieldDeclaration, item: FieldDeclaration] {
  if (!Array.isArray(cross.cross) || cross.cross.length !== 2) throw refuse(`cross "${cross.name}"`, "give it two names of fields");
  const [user, item] = cross.cross.map((name: string) => {
    const field = byName.get(name);
    if (field === undefined) throw refuse(`cross "${cross.name}" names the field "${name}", which is not declared`, "declare it, or name another");
    if (field.kind === "linear") throw refuse(`cross "${cross.name}": field "${name}" is linear`, "cross fields of kind id, ids or bucket");
    return field;
  }) as [FieldDeclaration, FieldDeclaration];
  if (partOf(user) !== "user")
    throw refuse(`cross "${cross.name}": "${user.name}" is not of the user side`, "name a user or context field (but position) first");
  const part = partOf(item);
  if (part !== "item" && part !== "signal")
    throw refuse(`cross "${cross.name}": "${item.name}" is not of the item side`, "name an item or signal field second");
  return [user, item];
}
