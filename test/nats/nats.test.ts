// The contracts of log and registry on a real nats-server: what is not skipped here can be had from a NATS backbone.
// Where the program `nats-server` is absent the tests are skipped and say so.

import { after, test } from "node:test";
import { StoppableClock } from "#backbone/suite.contract";
import type { Log } from "#backbone/log";
import { logContract } from "#backbone/log.contract";
import type { Registry } from "#backbone/registry";
import { registryContract } from "#backbone/registry.contract";
import { systemClock } from "#platform/system-clock";
import { openNatsLog } from "./nats-log.ts";
import { openNatsRegistry } from "./nats-registry.ts";
import { findNatsServer, type NatsServer, startNatsServer } from "./nats-server.ts";

const program = findNatsServer();

if (program === undefined) {
  test("log and registry contracts on nats-server", { skip: "no nats-server on this machine (Debian: apt-get install nats-server)" }, () => undefined);
} else {
  let started: Promise<NatsServer> | undefined;
  let worlds = 0;
  const server = (): Promise<NatsServer> => (started ??= startNatsServer(program));
  after(async () => (await started)?.stop());
  const leaseMs = 600;

  registryContract({
    name: "nats-server",
    within: async (body) => {
      const { port } = await server();
      const name = `registry-${(worlds += 1)}`;
      const opened: Registry[] = [];
      const open = async (clock: StoppableClock): Promise<Registry> => {
        const registry = await openNatsRegistry({ port, clock, name });
        opened.push(registry);
        return registry;
      };
      try {
        await body({
          clock: systemClock,
          open: () => open(new StoppableClock(systemClock)),
          openStoppable: async () => {
            const clock = new StoppableClock(systemClock);
            return { registry: await open(clock), stop: () => clock.stop() };
          },
        });
      } finally {
        for (const registry of opened) await registry.close();
      }
    },
  });

  logContract({
    name: "nats-server",
    within: async (body) => {
      const { port } = await server();
      const name = `log-${(worlds += 1)}`;
      const logs: Log[] = [];
      const registries: Registry[] = [];
      const open = async (clock: StoppableClock): Promise<Log> => {
        const registry = await openNatsRegistry({ port, clock, name: `${name}-registry` });
        const log = await openNatsLog({ port, clock: systemClock, name, registry, leaseMs });
        registries.push(registry);
        logs.push(log);
        return log;
      };
      try {
        await body({
          clock: systemClock,
          open: () => open(new StoppableClock(systemClock)),
          openStoppable: async () => {
            const clock = new StoppableClock(systemClock);
            return { log: await open(clock), stop: () => clock.stop() };
          },
        });
      } finally {
        for (const log of logs) await log.close().catch(() => undefined);
        for (const registry of registries) await registry.close();
      }
    },
  });
}
