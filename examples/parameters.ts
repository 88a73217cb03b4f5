// Training and serving on the same live parameters. docs/parameters.md says what to start first.
//   node examples/parameters.ts [PORT]     PORT: of the server's Redis protocol; it has a table `user` of 16 numbers
// In your own project the first line reads: import { ParameterClient } from "millrace";

import { ParameterClient } from "#sdk/index";

const parameters = await ParameterClient.connect({ port: Number(process.argv[2] ?? 6390) });
const users = parameters.table("user");

// Missing keys read as initial values, the same at every server and every time.
const keys = BigUint64Array.of(7n, 9n, 11n);
const before = await users.pull(keys, { found: true });
console.log(`${before.missing} of 3 keys have no row; key 7 begins at ${before.rows[0]!.toFixed(3)}`);

// A trainer pushes steps; they are added at the server. Steps of several trainers add up.
const steps = new Float32Array(2 * 16).fill(0.25);
console.log(`${await users.add(keys.subarray(0, 2), steps)} rows written`);

// Whoever pulls from now on reads them: here as f16, half the bytes.
const after = await users.pull(keys, { form: "F16" });
console.log(`key 7 is now at ${after.rows[0]!.toFixed(3)}`);

// Rows are checkpointed every minute; this one is on disk now.
await users.save();
parameters.close();
