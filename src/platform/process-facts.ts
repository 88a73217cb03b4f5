// What a process knows of itself: for metrics, health answers and benches.
// Cost: `memory` some microseconds (it reads /proc once), the others less.

import { availableParallelism, loadavg, totalmem } from "node:os";

export interface ProcessMemory {
  /** Resident set: what the system has given in all, shared memories included. */
  readonly residentBytes: number;
  /** JavaScript heap in use. */
  readonly heapBytes: number;
  /** Buffers and other memory outside the heap that belongs to JavaScript objects. */
  readonly externalBytes: number;
}

export interface ProcessFacts {
  readonly pid: number;
  readonly nodeVersion: string;
  /** `linux-x64` */
  readonly machine: string;
  /** Processors that this process may use. */
  readonly cores: number;
  readonly machineMemoryBytes: number;
  memory(): ProcessMemory;
  /** CPU time of all threads since the start, milliseconds. */
  cpuMs(): number;
  /** CPU time of the calling thread since its start, milliseconds. */
  threadCpuMs(): number;
  /** Milliseconds since the process began. */
  uptimeMs(): number;
  /** Processes that run or wait to run, average of the last minute; 0 where the system does not tell. */
  load(): number;
}

export const systemProcessFacts: ProcessFacts = {
  pid: process.pid,
  nodeVersion: process.version,
  machine: `${process.platform}-${process.arch}`,
  cores: availableParallelism(),
  machineMemoryBytes: totalmem(),
  memory() {
    const { rss, heapUsed, external } = process.memoryUsage();
    return { residentBytes: rss, heapBytes: heapUsed, externalBytes: external };
  },
  cpuMs() {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1000;
  },
  threadCpuMs() {
    const { user, system } = process.threadCpuUsage();
    return (user + system) / 1000;
  },
  uptimeMs: () => process.uptime() * 1000,
  load: () => loadavg()[0] ?? 0,
};
