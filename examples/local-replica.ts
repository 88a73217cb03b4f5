// A process' own copy of a table: reads without a network, following imported versions and live writes. docs/local-replica.md says what to start first.
//   node examples/local-replica.ts DATA [KEY...]     DATA: data folder of a server on this machine; it has a table `items`
// In your own project the first line reads: import { openTable } from "millrace";

import { openTable } from "#sdk/index";

const [data = "./data", ...wanted] = process.argv.slice(2);
const table = await openTable("items", { data, onAlarm: (message) => console.error(message) });
const { version, rows, bytes, live } = table.state;
console.log(`version ${version === "" ? "none" : version}: ${rows} rows, ${bytes} bytes; ${live.entries} live rows up to offset ${live.offset}`);

// Made once, used for any number of reads.
const keys = table.newKeys();
const ctr = new Float32Array(1_000);
const found = table.newRows({ ctr }, 1_000);

for (const key of wanted.length > 0 ? wanted : ["m-1", "m-2"]) keys.add(key);
table.read(keys, found);
for (let row = 0; row < found.count; row += 1) {
  const state = ["found", "absent", "not loaded here"][found.status[row]!];
  console.log(`${row}: ${state}, ctr ${ctr[row]}${found.isValid("ctr", row) ? "" : " (the default)"}`);
}
await table.close();
