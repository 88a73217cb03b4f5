// The server of the scenario fanout-read: a table of 50 f32 columns in a process of its own, so that its CPU time can be told from the client's.
// Arguments: rows. Sends {port} when it serves; ends with its parent.

import { RowPacker } from "#features/tables/row-packer";
import { openTableWorld } from "#features/tables/table-world.contract";
import { tableCommands } from "#commands/tables";
import { EffectBatch } from "#lsm/effect-batch";
import { systemClock } from "#platform/system-clock";
import { systemNetwork } from "#platform/system-network";
import { Access } from "#wire/access-users";
import { CommandTable } from "#wire/resp-command-table";
import { startRespServer } from "#wire/resp-server";
import { columnCount, keyOf, valueOf } from "./work.ts";

const rows = Number(process.argv[2]);
const columns = Object.fromEntries(Array.from({ length: columnCount }, (_, i) => [`f${i}`, { type: "f32" as const }]));
const world = await openTableWorld({ items: { key: "string", columns } }, { memtableBytes: 512 << 20, memoryBytesMax: 3 * 2 ** 30 });
const { schema } = world.tables.required("items");
const packer = new RowPacker(schema);
const effects = new EffectBatch();
const encoder = new TextEncoder();
const part = 2_000;
const data = schema.columns.map(() => new Float32Array(part));
for (let first = 0; first < rows; first += part) {
  const count = Math.min(part, rows - first);
  data.forEach((values, column) => {
    for (let i = 0; i < count; i += 1) values[i] = valueOf(first + i, column);
  });
  packer.pack(
    count,
    data.map((values) => ({ kind: "fixed", width: 4, data: new Uint8Array(values.buffer), valid: undefined })),
    1_700_000_000_000,
  );
  effects.clear();
  for (let i = 0; i < count; i += 1) {
    const row = packer.bytes.subarray(packer.offsets[i], packer.offsets[i + 1]);
    effects.put(schema.namespace, encoder.encode(keyOf(first + i)), 8, row, 0, 1_700_000_000_000);
  }
  await world.store.durable(world.store.write(effects));
}
const commands = new CommandTable(tableCommands(world.tables));
const server = await startRespServer({ network: systemNetwork, clock: systemClock, port: 0, commands, access: new Access({ commands, clock: systemClock }) });
process.on("disconnect", () => void world.close().finally(() => process.exit(0)));
process.send!({ port: server.port });
