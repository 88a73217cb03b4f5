// The parameters thread: opens the tables of the data folder and serves writes, requests and status until it is asked to stop. Wiring only; src/params/host has the work.

import { openSqliteRegistry } from "#backbone/sqlite-registry";
import { Prng } from "#base/prng";
import { warmKernels } from "#kernel/kernels";
import { MemoryPool } from "#kernel/memory-pool";
import { HostSync } from "#params/host/host-sync";
import { type HostTable } from "#params/host/host-table";
import { ParameterHost, type ParameterTableTicket } from "#params/host/parameter-host";
import { UpdateBell, type UpdateRingTicket } from "#params/update-ring";
import { systemNetwork } from "#platform/system-network";
import { systemProcesses } from "#platform/system-processes";
import { systemRandom } from "#platform/system-random";
import { packFailure, workerFailure } from "#platform/worker-failure";
import type { WorkerBody } from "#platform/workers";
import { type ParametersConfig, parameterMemoryMb } from "#wire/parameter-config";
import type { FromParameters, ParametersAsk, ParametersPassOn } from "./parameters.ts";

/** What the thread is started with. */
export interface ParametersThreadData {
  readonly config: ParametersConfig;
  readonly dataFolder: string;
  /** Of the serving loop, whose bell is the thread's. */
  readonly ring: UpdateRingTicket;
}

const statusMs = 1_000;
/** A registry that was deleted gives a second leader to whoever starts then; starting takes longer than this. */
const registryCheckMs = 250;
/** Memories come in classes, up to a quarter larger than what is asked for, with lanes on top. */
const poolShare = 1.5;

const body: WorkerBody = async ({ port, clock, files, data, signal }) => {
  const { config, dataFolder, ring } = data as ParametersThreadData;
  const tell = (message: FromParameters): void => port.send(message);
  warmKernels("parameters");
  const memoryBytesMax = parameterMemoryMb(config) * 2 ** 20;
  const sync =
    config.sync === undefined
      ? undefined
      : new HostSync({
          config: config.sync,
          network: systemNetwork,
          clock,
          random: new Prng(new DataView(systemRandom.bytes(new Uint8Array(8)).buffer).getBigUint64(0)),
          warn: (message) => tell({ kind: "warning", message }),
          ...(config.sync.registry === undefined
            ? {}
            : { registry: openSqliteRegistry({ path: config.sync.registry, clock, processes: systemProcesses, checkFileMs: registryCheckMs }) }),
          onLeader(leader) {
            tell({ kind: "leader", ...(typeof leader === "object" ? { address: leader.address } : {}) });
            const who = leader === "here" ? "this server leads" : leader === "nobody" ? "no server leads" : `${leader.address} leads`;
            tell({ kind: "warning", message: `${who} the parameter tables` });
          },
        });
  const ticketOf = ({ id, name, store }: HostTable): ParameterTableTicket => {
    return { id, name, dim: store.dim, shards: store.tickets(), ...(sync?.follows === undefined ? {} : { follows: sync.follows }) };
  };
  const host = await ParameterHost.open({
    pool: new MemoryPool({ capBytes: Math.ceil(memoryBytesMax * poolShare) + (256 << 20) }),
    clock,
    files,
    folder: files.join(dataFolder, "params"),
    exchangeFolder: files.join(dataFolder, "exchange"),
    tables: config.tables ?? {},
    memoryBytesMax,
    bell: new UpdateBell(ring.bell),
    ...(config.sync === undefined || sync === undefined ? {} : { node: config.sync.node, sync }),
    warn: (message) => tell({ kind: "warning", message }),
    onOpened: (table) => tell({ kind: "opened", table: ticketOf(table) }),
    onDropped: ({ id }) => tell({ kind: "dropped", id }),
  });
  host.attach(ring);
  const telling = (): void => tell({ kind: "status", status: host.status() });
  telling();
  tell({ kind: "ready" });
  const status = (async () => {
    for (;;) {
      await clock.sleep(statusMs, signal);
      telling();
    }
  })().catch(() => undefined);

  const answer = async ({ id, ask, name, config: of, exchange = "" }: ParametersAsk): Promise<void> => {
    try {
      const value = await (ask === "create"
        ? host.create(name, of!)
        : ask === "drop"
          ? host.drop(name)
          : ask === "save"
            ? host.save(name)
            : ask === "look"
              ? host.look(name)
              : ask === "export"
                ? host.exportTable(name, exchange)
                : host.importTable(name, exchange));
      // What was done shows in the status that the asking side has.
      telling();
      tell({ kind: "answer", id, value });
    } catch (thrown) {
      tell({ kind: "answer", id, failure: packFailure(workerFailure("parameters", thrown)) });
    }
  };
  const listening = (async () => {
    for (;;) {
      const message = (await port.receive()) as ParametersAsk | ParametersPassOn | undefined;
      if (message === undefined) return;
      if ("ask" in message) void answer(message);
      else sync?.passOn(message.name, message.port);
    }
  })();
  await host.run(signal);
  await Promise.all([listening, status]);
};

export default body;
