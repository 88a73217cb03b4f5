// The reading half of an import in a process (or thread) of its own. It stops at each checkpoint until it is told to go on, so that imports take turns.
// Messages out: { kind: "progress", ... }, { kind: "checkpoint" }, { kind: "done", journal }. In: anything, to go on.

import { MillraceError } from "#base/errors";
import type { WorkerBody } from "#platform/workers";
import type { ImportJournal } from "./import-journal.ts";
import { readPlan } from "./import-plan.ts";
import { readInputs, type ReadProgress } from "./read-inputs.ts";

export type ReaderMessage =
  ({ readonly kind: "progress" } & ReadProgress) | { readonly kind: "checkpoint" } | { readonly kind: "done"; readonly journal: ImportJournal };

const body: WorkerBody = async ({ port, files, data, signal }) => {
  const { folder } = data as { folder: string };
  const plan = await readPlan(files, folder);
  if (plan === undefined) throw new MillraceError("not-found", `there is no plan in ${folder}`, { todo: "start the import again" });
  const tell = (message: ReaderMessage): void => port.send(message);
  const journal = await readInputs({
    files,
    folder,
    plan,
    signal,
    onProgress: (progress) => tell({ kind: "progress", ...progress }),
    onCheckpoint: async () => {
      tell({ kind: "checkpoint" });
      await port.receive();
      signal.throwIfAborted();
    },
  });
  tell({ kind: "done", journal });
};
export default body;
