// An import that a server was asked for, as a process: its status stands on the board, its result in the head of the table's snapshots.

import type { WorkerBody } from "#platform/workers";
import { importTable, type ImportTableOptions } from "./importer.ts";

const body: WorkerBody = async ({ data, port, signal }) => {
  port.send(await importTable({ ...(data as ImportTableOptions), signal }));
};
export default body;
