// What several families of server commands say: the version that clients go by, and HELP from the declarations.

import type { Call } from "#wire/resp-command";

/** The Redis whose commands and answers are meant. Clients switch features by it. */
export const redisVersion = "7.0.15";

/** HELP of a container: one line a subcommand, from the command table. */
export function helpOf({ session, reply }: Call, container: string): void {
  const subcommands = session.server.commands.entries.filter((entry) => entry.container === container);
  reply.array(subcommands.length * 2 + 1);
  reply.simple(`${container.toUpperCase()} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:`);
  for (const { spec } of subcommands) {
    reply.simple(spec.name.slice(container.length + 1).toUpperCase());
    reply.simple(`    ${(spec.summary ?? "").replace(/\.$/, "")}.`);
  }
}
