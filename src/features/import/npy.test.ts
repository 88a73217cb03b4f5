// Guards that .npy files become the rows that NumPy meant, and that a header that lies is refused.

import assert from "node:assert/strict";
import { test } from "node:test";
import { MillraceError } from "#base/errors";
import { inWorld, type Row, schemaFor } from "./import-world.contract.ts";
import { parseNpyHeader } from "./npy-header.ts";

/** A file as numpy.save writes it. */
function npy(descr: string, shape: string, data: Uint8Array): Uint8Array {
  const text = `{'descr': ${descr}, 'fortran_order': False, 'shape': ${shape}, }`;
  const padded = `${text.padEnd(Math.ceil((text.length + 11) / 64) * 64 - 11)}\n`;
  const head = Buffer.from([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0, padded.length & 0xff, padded.length >> 8]);
  return Buffer.concat([head, Buffer.from(padded, "latin1"), data]);
}

const bytesOf = (array: ArrayBufferView): Uint8Array => new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
const refused = (text: RegExp) => (thrown: unknown) => thrown instanceof MillraceError && thrown.code === "invalid" && text.test(thrown.message);

test("a file of keys and one a column, with other number types too", async () => {
  await inWorld(async (world) => {
    const schema = schemaFor({
      key: "u64",
      columns: { ctr: { type: "f32" }, n: { type: "i64" }, embedding: { type: "f32", length: 2 }, seen: { type: "u64", length: 1 } },
    });
    const files = [
      `id=${await world.write("k.npy", npy("'<i8'", "(3,)", bytesOf(BigInt64Array.of(5n, -1n, 2n ** 40n))))}`,
      `ctr=${await world.write("c.npy", npy("'<f8'", "(3,)", bytesOf(Float64Array.of(0.5, 1, 1e300))))}`,
      `n=${await world.write("n.npy", npy("'<u1'", "(3,)", Uint8Array.of(1, 2, 255)))}`,
      `embedding=${await world.write("e.npy", npy("'<f4'", "(3, 2)", bytesOf(Float32Array.of(1, 2, 3, 4, 5, 6))))}`,
    ];
    const result = await world.import(schema, files).run();
    assert.deepEqual([result.rows, result.refused, result.missing], [1, 2, ["seen"]], "a negative key and a number beyond f32 are refused");
    assert.deepEqual(await world.rows(schema), new Map<string, Row>([["5", { ctr: 0.5, n: 1n, embedding: [1, 2] }]]));
  });
});

test("a structured file, texts of both kinds", async () => {
  await inWorld(async (world) => {
    const schema = schemaFor({ key: "string", columns: { title: { type: "string" }, ok: { type: "bool" }, v: { type: "f32", length: 2 } } });
    const row = (key: string, title: string, ok: number, v: readonly number[]): Uint8Array =>
      Buffer.concat([
        Buffer.from(key.padEnd(4, "\0")),
        bytesOf(Uint32Array.from(Array.from(title.padEnd(3, "\0"), (one) => one.codePointAt(0)!))),
        Uint8Array.of(ok),
        bytesOf(Float32Array.from(v)),
      ]);
    const data = Buffer.concat([row("ab", "世 x", 1, [1, 2]), row("c", "", 0, [3, 4])]);
    const path = await world.write("s.npy", npy("[('id', '|S4'), ('title', '<U3'), ('ok', '|b1'), ('v', '<f4', (2,))]", "(2,)", data));
    await world.import(schema, [path]).run();
    assert.deepEqual(
      await world.rows(schema),
      new Map<string, Row>([
        ["ab", { title: "世 x", ok: true, v: [1, 2] }],
        ["c", { title: "", ok: false, v: [3, 4] }],
      ]),
    );
    await assert.rejects(
      world.import(schemaFor({ key: "u64", columns: { v: { type: "f32" } } }), [path]).run(),
      refused(/id is S4, the key is u64; v is f4\[2\], the table has f32/),
    );
    await assert.rejects(world.import(schema, [await world.write("short.npy", npy("[('id', '|S4')]", "(99,)", data))]).run(), refused(/its header says/));
  });
});

test("headers that lie or that cannot be read here are refused", () => {
  const cases: [Uint8Array, RegExp][] = [
    [Buffer.from("nothing of it"), /is no \.npy file/],
    [npy("'>f4'", "(1,)", new Uint8Array(4)), /big-endian/],
    [npy("'<c8'", "(1,)", new Uint8Array(8)), /values of type/],
    [npy("'<f2'", "(1, 2)", new Uint8Array(4)), /half-precision floats.*astype\(numpy\.float32\)/],
    [npy("'<f4'", "()", new Uint8Array(4)), /no shape/],
    [npy("'<f4'", "(-1,)", new Uint8Array(4)), /no shape/],
    [npy("[('a', '<f4'), 3]", "(1,)", new Uint8Array(4)), /without a name/],
    [npy("'<f4'", "(1, 99999999)", new Uint8Array(4)), /values of type|rows of/],
    [npy("'<f4', 'descr': __import__('os')", "(1,)", new Uint8Array(4)), /cannot be read/],
    [npy("[[[[[[[[[[1]]]]]]]]]]", "(1,)", new Uint8Array(4)), /nested too deeply/],
  ];
  for (const [bytes, text] of cases) assert.throws(() => parseNpyHeader(bytes, "x.npy"), refused(text), String(text));
});
