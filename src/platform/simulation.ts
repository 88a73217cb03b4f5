// A world of simulated machines under one seed: their clocks, files, network and workers stand on one scheduler, so that a run, with all its
// delays, crashes and torn writes, is a number that can be repeated.
//
//   const simulation = new Simulation({ seed: 7 });
//   await simulation.run(async () => {
//     const node = simulation.node("a");
//     await node.run(async () => { ... node.files, node.clock ... });   // ends when the body ends or the node crashes
//     node.crash("power");
//     const again = simulation.node("a");                               // a new process on the same disk
//   });
//
// Invariants: 1. same seed and same body, same trace (`traceHash`)  2. what a crashed node began never settles and has no further effect: code that
// awaits it must run inside `node.run`, or the simulation reports that it is stuck  3. a machine keeps its disk and its wall time over crashes,
// nothing else.
// Limits: only what goes through the platform is simulated; real timers and I/O inside a run break the determinism, and real-world waits need
// `outside`. Virtual time stands still while code runs.

import type { Prng } from "#base/prng";
import type { Clock } from "./clock.ts";
import type { Files } from "./files.ts";
import type { Network } from "./network.ts";
import type { Processes } from "./processes.ts";
import { SimulatedClock, type WallTime } from "./simulated-clock.ts";
import { SimulatedDisk, type Unsynced } from "./simulated-disk.ts";
import { SimulatedFiles } from "./simulated-files.ts";
import { SimulatedInternet, SimulatedNetwork } from "./simulated-network.ts";
import { Life, SimulatedScheduler } from "./simulated-scheduler.ts";
import { SimulatedChildProcesses, SimulatedWorkers } from "./simulated-workers.ts";
import type { Workers } from "./workers.ts";

export interface SimulationOptions {
  readonly seed: number | string;
  /** Wall time at the beginning, default 2024-01-01T00:00Z. */
  readonly startMs?: number;
  /** Wall clocks of machines differ from it by up to this many ms in both directions, default 0. */
  readonly clockSkewMsMax?: number;
  /** Limit of one run, default 5,000,000 events. */
  readonly eventsMax?: number;
  /** Limit of one run, default 30 days of virtual time. */
  readonly virtualMsMax?: number;
}

/** How a body on a node ended. */
export type NodeRun<T> = { readonly crashed: false; readonly value: T } | { readonly crashed: true };

/** One incarnation of a process on a machine. */
export interface SimulatedNode {
  readonly name: string;
  /** 1 for the first process on this machine. */
  readonly incarnation: number;
  readonly alive: boolean;
  readonly clock: Clock;
  readonly files: Files;
  readonly workers: Workers;
  readonly childProcesses: SimulatedChildProcesses;
  /** Other machines are reached by their names as hosts. */
  readonly network: Network;
  /** Judges the incarnations of its own machine. */
  readonly processes: Processes;
  /** The machine's disk: faults, capacity, contents. It outlives the incarnation. */
  readonly disk: SimulatedDisk;
  /** Random numbers of this incarnation. */
  readonly random: Prng;
  /** Runs code that may be cut off by a crash of this node; throws what the body throws. */
  run<T>(body: () => Promise<T>): Promise<NodeRun<T>>;
  /** `kill`: the process is gone, what it handed to the system stays. `power`: what was not synced is lost, torn or kept as `unsynced` says. */
  crash(how: "kill" | "power", unsynced?: Unsynced): void;
  /** Moves the machine's wall clock by `ms`, in either direction. */
  jumpWallTime(ms: number): void;
}

interface Machine {
  readonly name: string;
  readonly disk: SimulatedDisk;
  readonly wall: WallTime;
  incarnations: number;
  current: SimulatedNode | undefined;
}

/** 2024-01-01T00:00:00Z */
const defaultStartMs = 1_704_067_200_000;

export class Simulation {
  readonly seed: number | string;
  /** For the decisions of the test itself; independent of everything else. */
  readonly random: Prng;
  /** A clock outside all machines: it never crashes. */
  readonly clock: Clock;
  /** The wires between the machines: partitions, resets. */
  readonly internet: SimulatedInternet;
  readonly #scheduler: SimulatedScheduler;
  readonly #startMs: number;
  readonly #clockSkewMsMax: number;
  readonly #machines = new Map<string, Machine>();

  constructor(options: SimulationOptions) {
    this.seed = options.seed;
    this.#scheduler = new SimulatedScheduler(options.seed, {
      eventsMax: options.eventsMax ?? 5_000_000,
      virtualMsMax: options.virtualMsMax ?? 30 * 86_400_000,
    });
    this.random = this.#scheduler.random.fork("test");
    this.#startMs = options.startMs ?? defaultStartMs;
    this.#clockSkewMsMax = options.clockSkewMsMax ?? 0;
    this.internet = new SimulatedInternet(this.#scheduler);
    this.clock = new SimulatedClock(this.#scheduler, new Life(), { offsetMs: this.#startMs }, "world");
  }

  /** Equal for equal runs: covers time, kind and order of every event so far. */
  get traceHash(): string {
    return this.#scheduler.traceHash;
  }

  get eventCount(): number {
    return this.#scheduler.fired;
  }

  /** Called with each event (virtual microseconds, label), for instance to print the end of a failing run. */
  set onEvent(listener: ((atUs: number, label: string) => void) | undefined) {
    this.#scheduler.onEvent = listener;
  }

  /** Runs the body in virtual time. Its errors come out with the seed in their message; so does a deadlock. May be called again: the world goes on. */
  run<T>(body: () => Promise<T>): Promise<T> {
    return this.#scheduler.drive(body);
  }

  /** Virtual time stands still until this promise of the real world has settled. */
  outside<T>(work: Promise<T>): Promise<T> {
    return this.#scheduler.outside(work);
  }

  /** The living incarnation on a machine, or a new one; the machine is made when the name is new. */
  node(name: string): SimulatedNode {
    const machine = this.#machine(name);
    if (machine.current?.alive !== true) machine.current = this.#start(machine);
    return machine.current;
  }

  #machine(name: string): Machine {
    const known = this.#machines.get(name);
    if (known !== undefined) return known;
    const random = this.#scheduler.random.fork(`machine ${name}`);
    const skewMs = this.#clockSkewMsMax === 0 ? 0 : random.between(-this.#clockSkewMsMax, this.#clockSkewMsMax);
    const machine: Machine = {
      name,
      disk: new SimulatedDisk(random.fork("disk")),
      wall: { offsetMs: this.#startMs + skewMs },
      incarnations: 0,
      current: undefined,
    };
    this.#machines.set(name, machine);
    return machine;
  }

  #start(machine: Machine): SimulatedNode {
    machine.incarnations += 1;
    const incarnation = machine.incarnations;
    const name = `${machine.name}#${incarnation}`;
    const scheduler = this.#scheduler;
    const life = new Life();
    const platform = (ofLife: Life, ofName: string): { clock: Clock; files: Files } => ({
      clock: new SimulatedClock(scheduler, ofLife, machine.wall, ofName),
      files: new SimulatedFiles({ scheduler, life: ofLife, disk: machine.disk, name: ofName }),
    });
    const network = new SimulatedNetwork(this.internet, life, machine.name);
    return {
      name: machine.name,
      incarnation,
      get alive() {
        return life.alive;
      },
      ...platform(life, name),
      workers: new SimulatedWorkers(scheduler, life, name, platform),
      childProcesses: new SimulatedChildProcesses(scheduler, life, name, platform),
      network,
      processes: {
        self: name,
        isGone(owner) {
          const [ownerMachine, ownerIncarnation] = owner.split("#");
          if (ownerMachine !== machine.name) return false;
          return Number(ownerIncarnation) < machine.incarnations || (Number(ownerIncarnation) === machine.incarnations && machine.current?.alive !== true);
        },
      },
      disk: machine.disk,
      random: scheduler.random.fork(`node ${name}`),
      run: (body) => runWithin(life, body),
      crash(how, unsynced = "seeded") {
        if (!life.alive) return;
        network.crash(how);
        life.end();
        if (how === "power") machine.disk.powerCut(unsynced);
      },
      jumpWallTime(ms) {
        machine.wall.offsetMs += ms;
      },
    };
  }
}

function runWithin<T>(life: Life, body: () => Promise<T>): Promise<NodeRun<T>> {
  const { promise, resolve, reject } = Promise.withResolvers<NodeRun<T>>();
  if (!life.alive) {
    resolve({ crashed: true });
    return promise;
  }
  // Whichever comes first counts: what a dead process returns or throws later is nobody's concern.
  const forget = life.onEnd(() => resolve({ crashed: true }));
  body().then(
    (value) => {
      forget();
      resolve({ crashed: false, value });
    },
    (thrown: unknown) => {
      forget();
      reject(thrown);
    },
  );
  return promise;
}
