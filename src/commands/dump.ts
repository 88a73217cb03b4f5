// DUMP and RESTORE: a value as bytes, and back. As in Redis the bytes are opaque and end in a version and a checksum; they are ours, not Redis'.
//   u8 type (0 string, 1 hash) | string: its bytes | hash: u32 fields, each u32 name bytes, name, u32 value bytes, value, f64 expiry ms (0: none)
//   u16 version | u32 CRC32C of all before | u32 0
// Numbers little-endian.
// Invariant: what is read is checked before anything is written: version, checksum, every length.
// Limits: `payloadBytesMax`, the largest argument that a command can have with room for the effects of its fields.

import { crc32c } from "#base/crc32c";
import { fieldBytesMax } from "#features/keyspace/hashes";
import { keyspaceLimits } from "#features/keyspace/keyspace";
import { entryKinds } from "#kernel/entry-record";
import type { Args, Call, CommandSpec } from "#wire/resp-command";
import { CommandError, dataCommand, type DataParts, integerAt, newKey, oneKey, texts } from "./data-command.ts";
import { absoluteMs, storable } from "./expiry-argument.ts";

const version = 0x6d01;
const footBytes = 10;
/** The effects of one command are bounded; a field takes less there than here. */
const payloadBytesMax = 3 << 20;

export function dumpCommands(parts: DataParts): CommandSpec[] {
  const { keyspace, hashes } = parts;

  const dump = ({ args, reply }: Call): void => {
    const entry = keyspace.find(args.bytes(1));
    if (entry === undefined) {
      reply.nil();
      return;
    }
    if (entry.kind === entryKinds.string) {
      const payload = new Uint8Array(1 + entry.value.length + footBytes);
      payload.set(entry.value, 1);
      reply.bulk(sealed(payload));
      return;
    }
    const fields: { readonly name: Uint8Array; readonly value: Uint8Array; readonly expiryMs: number }[] = [];
    let bytes = 5 + footBytes;
    hashes.open(args.bytes(1), entry).each(({ name, value, expiryMs }) => {
      bytes += 16 + name.length + value.length;
      if (bytes > payloadBytesMax) throw new CommandError(`ERR DUMP of a hash of more than ${payloadBytesMax} bytes`);
      fields.push({ name: name.slice(), value: value.slice(), expiryMs });
    });
    const payload = new Uint8Array(bytes);
    const view = new DataView(payload.buffer);
    payload[0] = 1;
    view.setUint32(1, fields.length, true);
    let at = 5;
    for (const { name, value, expiryMs } of fields) {
      for (const part of [name, value]) {
        view.setUint32(at, part.length, true);
        payload.set(part, at + 4);
        at += 4 + part.length;
      }
      view.setFloat64(at, expiryMs, true);
      at += 8;
    }
    reply.bulk(sealed(payload));
  };

  const restore = ({ args, reply }: Call): void => {
    const key = newKey(args, 1);
    const { replace, absolute } = restoreOptions(args);
    const old = keyspace.find(key);
    if (old !== undefined && !replace) throw new CommandError("BUSYKEY Target key name already exists.");
    const ttl = integerAt(args, 2);
    if (ttl < 0) throw new CommandError("ERR Invalid TTL value, must be >= 0");
    const content = opened(args.bytes(3));
    const fields = content[0] === 1 ? fieldsOf(content) : undefined;
    if (fields === undefined && content[0] !== 0) throw new CommandError("ERR Bad data format");
    const expiryMs = ttl === 0 ? 0 : storable(absoluteMs(ttl, { seconds: false, absolute }, keyspace.nowMs, "restore"));
    if (expiryMs !== 0 && expiryMs <= keyspace.nowMs) {
      if (old !== undefined) hashes.remove(key, old);
      reply.ok();
      return;
    }
    if (old?.kind === entryKinds.hashMeta) keyspace.onOrphans();
    if (fields === undefined) {
      const value = content.subarray(1);
      if (value.length > keyspaceLimits.valueBytesMax) throw new CommandError(texts.tooLong);
      keyspace.put(key, entryKinds.string, value, expiryMs);
    } else {
      const hash = hashes.create(key);
      for (const { name, value, expiryMs: fieldMs } of fields) hash.set(name, value, fieldMs);
      hash.keyExpiryMs = expiryMs;
      hash.save();
    }
    reply.ok();
  };

  const shared = { group: "generic", categories: ["keyspace"], keys: oneKey, since: "2.6.0" };
  return [
    dataCommand(
      parts,
      { ...shared, name: "dump", arity: 2, flags: ["readonly"], summary: "Return a serialized version of the value stored at the specified key." },
      dump,
    ),
    dataCommand(
      parts,
      {
        ...shared,
        name: "restore",
        arity: -4,
        flags: ["write", "denyoom"],
        categories: ["keyspace", "dangerous"],
        summary: "Create a key using the provided serialized value, previously obtained using DUMP.",
      },
      restore,
    ),
  ];
}

function restoreOptions(args: Args): { readonly replace: boolean; readonly absolute: boolean } {
  let replace = false;
  let absolute = false;
  let idle = false;
  let freq = false;
  for (let i = 4; i < args.count; i++) {
    const more = i + 1 < args.count;
    if (args.is(i, "REPLACE")) replace = true;
    else if (args.is(i, "ABSTTL")) absolute = true;
    else if (args.is(i, "IDLETIME") && more && !freq) {
      if (integerAt(args, ++i) < 0) throw new CommandError("ERR Invalid IDLETIME value, must be >= 0");
      idle = true;
    } else if (args.is(i, "FREQ") && more && !idle) {
      const frequency = integerAt(args, ++i);
      if (frequency < 0 || frequency > 255) throw new CommandError("ERR Invalid FREQ value, must be >= 0 and <= 255");
      freq = true;
    } else throw new CommandError(texts.syntax);
  }
  return { replace, absolute };
}

/** Writes the foot behind the content. */
function sealed(payload: Uint8Array): Uint8Array {
  const at = payload.length - footBytes;
  const view = new DataView(payload.buffer);
  view.setUint16(at, version, true);
  view.setUint32(at + 2, crc32c(payload, 0, 0, at + 2), true);
  return payload;
}

/** The content of a payload whose foot is right. */
function opened(payload: Uint8Array): Uint8Array {
  const at = payload.length - footBytes;
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  if (at < 1 || view.getUint16(at, true) !== version || view.getUint32(at + 2, true) !== crc32c(payload, 0, 0, at + 2) || view.getUint32(at + 6, true) !== 0) {
    throw new CommandError("ERR DUMP payload version or checksum are wrong");
  }
  return payload.subarray(0, at);
}

interface DumpedField {
  readonly name: Uint8Array;
  readonly value: Uint8Array;
  readonly expiryMs: number;
}

function fieldsOf(content: Uint8Array): DumpedField[] {
  const bad = (): CommandError => new CommandError("ERR Bad data format");
  const view = new DataView(content.buffer, content.byteOffset, content.byteLength);
  if (content.length < 5 || content.length > payloadBytesMax) throw bad();
  const count = view.getUint32(1, true);
  const fields: DumpedField[] = [];
  let at = 5;
  const part = (bytesMax: number): Uint8Array => {
    if (at + 4 > content.length) throw bad();
    const bytes = view.getUint32(at, true);
    at += 4;
    if (bytes > bytesMax || at + bytes > content.length) throw bad();
    at += bytes;
    return content.subarray(at - bytes, at);
  };
  for (let i = 0; i < count; i++) {
    const name = part(fieldBytesMax);
    const value = part(keyspaceLimits.valueBytesMax);
    if (at + 8 > content.length) throw bad();
    const expiryMs = view.getFloat64(at, true);
    at += 8;
    if (!(expiryMs >= 0 && storable(expiryMs) === expiryMs && Number.isInteger(expiryMs))) throw bad();
    fields.push({ name, value, expiryMs });
  }
  if (at !== content.length || count === 0) throw bad();
  return fields;
}
