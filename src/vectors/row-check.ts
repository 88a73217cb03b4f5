// What is wrong with a call by the limits, before anything is sent or made: names, elements, numbers, attributes.
// Why apart: VADD to a new name makes the collection, and must know first that its row will be taken.
// Cost: one pass over the numbers. Limits: vectorLimits.

import { MillraceError } from "#base/errors";
import { type CollectionShape, vectorLimits, type VectorRows } from "./vector-service.ts";

const encoder = new TextEncoder();

/** Throws `invalid` for rows that a collection of this shape refuses; without a shape, for those that every one refuses. */
export function checkRows(collection: string, { elements, vectors, attributes }: VectorRows, shape: CollectionShape | undefined): void {
  checkElements(elements);
  if (shape !== undefined && vectors.length !== elements.length * shape.dims) {
    throw invalid(
      `${vectors.length} numbers for ${elements.length} elements of collection ${shown(collection)}`,
      `give ${shape.dims} numbers for each element`,
    );
  }
  if (attributes !== undefined) checkAttributes(attributes, elements.length);
  checkFinite(vectors, "a vector", collection);
  if (elements.length > 0) checkLong(vectors, vectors.length / elements.length, "a vector", collection);
  if (shape?.metric === "cosine") checkLengths(vectors, shape.dims, collection);
}

export function invalid(what: string, todo: string): MillraceError {
  return new MillraceError("invalid", what, { todo });
}

export const shown = (name: string): string => JSON.stringify(name.slice(0, 64));

const of = (collection: string): string => (collection === "" ? "" : ` for collection ${shown(collection)}`);

/** `collection`: said in the refusal alone, since this runs for every row. */
export function checkFinite(numbers: Float32Array, what: string, collection = ""): void {
  // 0 x Infinity and 0 x NaN are NaN.
  for (let i = 0; i < numbers.length; i++)
    if (numbers[i]! * 0 !== 0) throw invalid(`${what}${of(collection)} with a number that is not finite`, "give finite numbers");
}

/** Products and distances beyond f32 would be infinite, and vanish from answers. */
export function checkLong(vectors: Float32Array, dims: number, what: string, collection = ""): void {
  const { lengthMax } = vectorLimits;
  for (let row = 0; row < vectors.length; row += dims) {
    let squares = 0;
    for (let at = row; at < row + dims; at++) squares += vectors[at]! * vectors[at]!;
    if (squares > lengthMax * lengthMax)
      throw invalid(`${what}${of(collection)} of length ${Math.sqrt(squares).toPrecision(3)}`, `scale vectors to at most ${lengthMax.toPrecision(3)}`);
  }
}

/** A vector of length 0 has no direction, so no cosine: no index could hold it. */
function checkLengths(vectors: Float32Array, dims: number, collection: string): void {
  for (let row = 0; row < vectors.length; row += dims) {
    let at = row;
    while (at < row + dims && vectors[at] === 0) at++;
    if (at === row + dims) throw invalid(`a vector of length 0 for collection ${shown(collection)}, which compares by cosine`, "leave the element out");
  }
}

/** UTF-8 bytes, without encoding what is surely short. */
function bytesOf(text: string, max: number): number {
  return text.length * 3 <= max ? text.length : text.length > max ? text.length : encoder.encode(text).length;
}

export function checkName(name: string): void {
  if (name.length > 0 && bytesOf(name, vectorLimits.nameBytesMax) <= vectorLimits.nameBytesMax) return;
  throw invalid(`the collection name ${shown(name)}`, `use 1 to ${vectorLimits.nameBytesMax} bytes`);
}

export function checkElements(elements: readonly string[]): void {
  if (elements.length > vectorLimits.rowsMax) throw invalid(`${elements.length} elements in one call`, `send at most ${vectorLimits.rowsMax}`);
  for (const element of elements) {
    if (element.length > 0 && bytesOf(element, vectorLimits.elementBytesMax) <= vectorLimits.elementBytesMax) continue;
    throw invalid(`the element ${shown(element)}`, `use 1 to ${vectorLimits.elementBytesMax} bytes`);
  }
}

export function checkAttributes(attributes: readonly (string | undefined)[], count: number): void {
  if (attributes.length !== count) throw invalid(`${attributes.length} attributes for ${count} elements`, "give one for each element");
  for (const text of attributes) {
    if (text === undefined || text === "") continue;
    if (bytesOf(text, vectorLimits.attributesBytesMax) > vectorLimits.attributesBytesMax) {
      throw invalid(`attributes of ${text.length} characters`, `use at most ${vectorLimits.attributesBytesMax} bytes`);
    }
    try {
      JSON.parse(text);
    } catch {
      throw invalid("attributes that are no JSON text", "give JSON, or an empty text to take them away");
    }
  }
}
