// The plain table keeps the contract of src/params/sync-table.ts.

import { MapTable } from "./map-table.ts";
import { syncTableContract } from "./sync-table.contract.ts";

syncTableContract("plain table", (body) => body((shape) => new MapTable(shape)));
