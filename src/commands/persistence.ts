// SAVE and BGSAVE: what the memtables hold goes into run files now. Acknowledged writes are in the log with or without them; a restart then replays less.

import type { Store } from "#lsm/store";
import type { CommandSpec } from "#wire/resp-command";

const shared = { categories: ["dangerous"], keys: undefined, group: "server" } as const;

export function persistenceCommands(store: Store): CommandSpec[] {
  let underWay: Promise<void> | undefined;
  const flush = (): Promise<void> => (underWay ??= store.flush().finally(() => (underWay = undefined)));
  return [
    {
      ...shared,
      name: "save",
      flags: ["admin", "noscript", "no_multi", "no_async_loading"],
      arity: 1,
      summary: "Writes the memtables to run files and answers when it is done",
      async run({ reply }) {
        await flush();
        reply.ok();
      },
    },
    {
      ...shared,
      name: "bgsave",
      flags: ["admin", "noscript", "no_async_loading"],
      arity: -1,
      summary: "Begins to write the memtables to run files",
      run({ args, reply }) {
        if (args.count > 2 || (args.count === 2 && !args.is(1, "SCHEDULE"))) reply.error("ERR syntax error");
        else {
          // After the transaction that it may stand in. A failure stands in the store's state and is tried again there.
          void Promise.resolve()
            .then(flush)
            .catch(() => undefined);
          reply.simple("Background saving started");
        }
      },
    },
  ];
}
