// The network between simulated machines. See network.ts for the contract.
// Model: a connection is two directions; each is a line of items (bytes, end) that arrive in order after seeded delays. A partition holds what is on
// the way, as TCP does by sending again: it goes on when healed, or breaks after `stalledMsMax`. A killed process ends its connections like a
// close; after a power cut the other side hears nothing and breaks later.
// Invariants: 1. bytes of a direction arrive in order, each once, or the connection breaks  2. chunks are cut and joined by the seed: code that takes
// a chunk for a message fails here  3. a write waits while `windowBytes` are on the way or unread  4. what belongs to an ended life is silent.
// Limits: a bandwidth is not modelled; names of hosts are names of machines, 127.0.0.1 and localhost are the own one.

import { type MillraceError } from "#base/errors";
import type { Prng } from "#base/prng";
import type { Timer } from "./clock.ts";
import { connectTimeoutMsDefault, type Connection, type Listener, type Network } from "./network.ts";
import { connectionBroke, connectionClosed, connectRefused, connectTimedOut, isPort, listenRefused } from "./network-errors.ts";
import { Life, type SimulatedScheduler } from "./simulated-scheduler.ts";

/** Bytes of one direction that may be on the way or unread. */
const windowBytes = 65_536;
/** A connection whose bytes cannot get through for so long breaks. Chosen; a real one may hang for a quarter of an hour. */
const stalledMsMax = 20_000;
/** After a power cut the other side of a connection breaks within this time. */
const silentMsMax = 20_000;
const loopbackHosts = new Set(["127.0.0.1", "localhost", "::1"]);
const anyHosts = new Set(["0.0.0.0", "::"]);

interface Bound {
  readonly life: Life;
  readonly loopbackOnly: boolean;
  readonly accept: (connection: Connection) => void;
}

interface Host {
  readonly name: string;
  readonly ports: Map<number, Bound>;
  /** Without power nobody refuses a connection: it is just not answered. */
  powered: boolean;
}

/** The wires between all machines of a simulation, and what tests do to them. */
export class SimulatedInternet {
  /** Chance that a delivery breaks its connection instead, default 0. */
  resetChance = 0;
  readonly scheduler: SimulatedScheduler;
  readonly random: Prng;
  /** Life of the wires themselves. */
  readonly life = new Life();
  readonly #hosts = new Map<string, Host>();
  readonly #cuts = new Set<string>();
  readonly #connections = new Set<Wire>();
  #connectionCount = 0;

  constructor(scheduler: SimulatedScheduler) {
    this.scheduler = scheduler;
    this.random = scheduler.random.fork("internet");
  }

  /** Nothing gets from one machine to the other, in both directions, until healed. */
  partition(a: string, b: string): void {
    this.#cuts.add(pairOf(a, b));
  }

  /** Ends a partition; what was held arrives. */
  heal(a: string, b: string): void {
    if (!this.#cuts.delete(pairOf(a, b))) return;
    for (const wire of this.#connections) if (pairOf(wire.a.machine, wire.b.machine) === pairOf(a, b)) wire.resume();
  }

  /** Breaks every connection between two machines. */
  reset(a: string, b: string): void {
    for (const wire of [...this.#connections]) if (pairOf(wire.a.machine, wire.b.machine) === pairOf(a, b)) wire.break("ECONNRESET");
  }

  isCut(a: string, b: string): boolean {
    return this.#cuts.has(pairOf(a, b));
  }

  host(name: string): Host {
    let host = this.#hosts.get(name);
    if (host === undefined) {
      host = { name, ports: new Map(), powered: true };
      this.#hosts.set(name, host);
    }
    return host;
  }

  known(name: string): Host | undefined {
    return this.#hosts.get(name);
  }

  /** 20 to 60 us inside a machine, 0.1 to 0.5 ms between machines, one packet in 200 up to 40 ms. Chosen. */
  latencyUs(a: string, b: string): number {
    if (a === b) return 20 + this.random.below(40);
    return this.random.chance(0.005) ? this.random.below(40_000) : 100 + this.random.below(400);
  }

  wire(a: EndPlace, b: EndPlace): Wire {
    this.#connectionCount += 1;
    const wire = new Wire(this, this.#connectionCount, a, b);
    this.#connections.add(wire);
    return wire;
  }

  forget(wire: Wire): void {
    this.#connections.delete(wire);
  }

  /** The power of a machine is gone: its connections fall silent, and break on the other side some time later. */
  silence(life: Life): void {
    for (const wire of this.#connections) {
      for (const end of [wire.a, wire.b]) if (end.life === life) wire.silence(end);
    }
  }
}

function pairOf(a: string, b: string): string {
  return a < b ? `${a} ${b}` : `${b} ${a}`;
}

interface EndPlace {
  readonly machine: string;
  readonly life: Life;
  readonly remote: string;
}

interface WaitingWrite {
  bytes: Uint8Array;
  readonly resolve: () => void;
  readonly reject: (thrown: MillraceError) => void;
}

/** One side of a connection. */
class End implements Connection {
  readonly machine: string;
  readonly life: Life;
  readonly remote: string;
  readonly #wire: Wire;
  /** Arrived and not read. */
  #unread: Uint8Array[] = [];
  #broke: string | undefined;
  #told = false;
  /** The other side's end has arrived. */
  #ended = false;
  closed = false;
  silent = false;
  #wake: (() => void) | undefined;
  // The direction that leaves here.
  #waiting: WaitingWrite[] = [];
  #line: (Uint8Array | "end")[] = [];
  /** Bytes on the way or unread at the other side. */
  #outstanding = 0;
  #lastUs = 0;
  /** Arrivals that came due during a partition. */
  #held = 0;
  #stalled: Timer | undefined;

  constructor(wire: Wire, place: EndPlace) {
    this.#wire = wire;
    this.machine = place.machine;
    this.life = place.life;
    this.remote = place.remote;
  }

  async read(): Promise<Uint8Array | undefined> {
    for (;;) {
      if (!this.life.alive) return new Promise(() => undefined);
      if (this.closed) return undefined;
      if (this.#unread.length > 0) return this.#take();
      if (this.#broke !== undefined) {
        if (this.#told) return undefined;
        this.#told = true;
        throw connectionBroke(this.remote, this.#broke);
      }
      if (this.#ended) return undefined;
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  write(bytes: Uint8Array): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    if (!this.life.alive) return promise;
    if (this.#broke !== undefined) reject(connectionBroke(this.remote, this.#broke));
    else if (this.closed || this.#ended) reject(connectionClosed(this.remote));
    else {
      this.#waiting.push({ bytes, resolve, reject });
      this.#send();
    }
    return promise;
  }

  close(): void {
    if (this.closed || !this.life.alive) return;
    this.shut();
  }

  /** Ends this side: by `close`, or because its process was killed. What was handed over still arrives. */
  shut(): void {
    this.closed = true;
    this.#wakeUp();
    // What waits for the window goes too: a system's socket sends it after the close.
    for (const { bytes, resolve } of this.#waiting) {
      if (this.life.alive) {
        this.#depart(bytes.slice());
        resolve();
      }
    }
    this.#waiting = [];
    this.#depart("end");
  }

  break(code: string): void {
    if (this.#broke !== undefined) return;
    this.#broke = code;
    this.#unread = [];
    this.#line = [];
    this.#stalled?.cancel();
    if (this.life.alive) for (const { reject } of this.#waiting) reject(connectionBroke(this.remote, code));
    this.#waiting = [];
    this.#wakeUp();
  }

  /** After a partition: everything that came due arrives. */
  resume(): void {
    this.#stalled?.cancel();
    this.#stalled = undefined;
    const held = this.#held;
    this.#held = 0;
    for (let i = 0; i < held; i++) this.#arriveLater("arrives again");
  }

  get #other(): End {
    return this.#wire.a === this ? this.#wire.b : this.#wire.a;
  }

  #take(): Uint8Array {
    let taken = this.#unread.shift()!;
    // Sometimes all that is there, sometimes chunk by chunk.
    if (this.#unread.length > 0 && this.#wire.internet.random.chance(0.5)) {
      const joined = new Uint8Array(this.#unread.reduce((sum, chunk) => sum + chunk.length, taken.length));
      let at = 0;
      for (const chunk of [taken, ...this.#unread]) {
        joined.set(chunk, at);
        at += chunk.length;
      }
      this.#unread = [];
      taken = joined;
    }
    const other = this.#other;
    other.#outstanding -= taken.length;
    other.#send();
    return taken;
  }

  /** Hands waiting bytes to the wire as far as the window allows. */
  #send(): void {
    while (this.#waiting.length > 0 && !this.silent) {
      const first = this.#waiting[0]!;
      const room = windowBytes - this.#outstanding;
      // Not piece by piece: a quarter of the window must be free, or the rest of the write fit.
      if (room < Math.min(first.bytes.length, windowBytes / 4)) return;
      const part = first.bytes.subarray(0, room);
      if (part.length > 0) this.#depart(part.slice());
      if (part.length === first.bytes.length) {
        this.#waiting.shift();
        first.resolve();
      } else first.bytes = first.bytes.subarray(part.length);
    }
  }

  #depart(item: Uint8Array | "end"): void {
    if (this.#broke !== undefined || this.silent) return;
    if (item === "end") this.#line.push(item);
    else {
      this.#outstanding += item.length;
      const { random } = this.#wire.internet;
      const cut = item.length > 1 && random.chance(0.3) ? 1 + random.below(item.length - 1) : item.length;
      this.#line.push(item.subarray(0, cut));
      if (cut < item.length) {
        this.#line.push(item.subarray(cut));
        this.#arriveLater("part");
      }
    }
    this.#arriveLater(item === "end" ? "end" : `${item.length} B`);
  }

  #arriveLater(what: string): void {
    const { internet } = this.#wire;
    const { scheduler } = internet;
    this.#lastUs = Math.max(this.#lastUs, scheduler.nowUs + internet.latencyUs(this.machine, this.#other.machine));
    scheduler.schedule(this.#lastUs - scheduler.nowUs, `wire ${this.#wire.number} ${this.machine} to ${this.#other.machine} ${what}`, internet.life, () =>
      this.#arrive(),
    );
  }

  #arrive(): void {
    if (this.#broke !== undefined || this.#line.length === 0) return;
    const { internet } = this.#wire;
    const other = this.#other;
    if (internet.isCut(this.machine, other.machine)) {
      this.#held += 1;
      this.#stalled ??= internet.scheduler.schedule(stalledMsMax * 1000, `wire ${this.#wire.number} stalled`, internet.life, () =>
        this.#wire.break("ETIMEDOUT"),
      );
      return;
    }
    if (internet.resetChance > 0 && internet.random.chance(internet.resetChance)) return this.#wire.break("ECONNRESET");
    const item = this.#line.shift()!;
    if (item === "end") {
      other.#ended = true;
      other.#wakeUp();
      // As a system's socket without half-open: the end is answered by an end.
      if (!other.closed && other.life.alive) for (const { reject } of other.#waiting.splice(0)) reject(connectionClosed(other.remote));
      if (other.closed || !other.life.alive || this.closed) this.#wire.settleIfOver();
      return;
    }
    if (other.silent) return;
    // Bytes for a process that is gone are answered by a reset.
    if (!other.life.alive) return this.#wire.break("ECONNRESET");
    if (other.closed) {
      this.#outstanding -= item.length;
      this.#send();
      return;
    }
    other.#unread.push(item);
    other.#wakeUp();
  }

  #wakeUp(): void {
    const wake = this.#wake;
    this.#wake = undefined;
    if (this.life.alive) wake?.();
  }

  get over(): boolean {
    return this.#broke !== undefined || (this.#ended && this.closed);
  }
}

class Wire {
  readonly internet: SimulatedInternet;
  readonly number: number;
  readonly a: End;
  readonly b: End;
  readonly #forgets: (() => void)[] = [];

  constructor(internet: SimulatedInternet, number: number, a: EndPlace, b: EndPlace) {
    this.internet = internet;
    this.number = number;
    this.a = new End(this, a);
    this.b = new End(this, b);
    for (const end of [this.a, this.b]) {
      this.#forgets.push(
        end.life.onEnd(() => {
          if (!end.silent && !end.closed) end.shut();
        }),
      );
    }
  }

  break(code: string): void {
    this.a.break(code);
    this.b.break(code);
    this.#forget();
  }

  resume(): void {
    this.a.resume();
    this.b.resume();
  }

  /** `end` has lost its power: it sends nothing more, not even an end. */
  silence(end: End): void {
    end.silent = true;
    const { scheduler, random } = this.internet;
    scheduler.schedule(random.below(silentMsMax * 1000), `wire ${this.number} breaks`, this.internet.life, () => this.break("ETIMEDOUT"));
  }

  settleIfOver(): void {
    if (this.a.over && this.b.over) this.#forget();
  }

  #forget(): void {
    for (const forget of this.#forgets) forget();
    this.internet.forget(this);
  }
}

/** The network as one life on one machine sees it. */
export class SimulatedNetwork implements Network {
  readonly #internet: SimulatedInternet;
  readonly #life: Life;
  readonly #host: Host;

  constructor(internet: SimulatedInternet, life: Life, machine: string) {
    this.#internet = internet;
    this.#life = life;
    this.#host = internet.host(machine);
    this.#host.powered = true;
  }

  /** Called at the end of the life, before it: a power cut says no goodbye. */
  crash(how: "kill" | "power"): void {
    if (how === "kill") return;
    this.#host.powered = false;
    this.#internet.silence(this.#life);
  }

  listen(address: { host: string; port: number }, accept: (connection: Connection) => void): Promise<Listener> {
    const { scheduler, random } = this.#internet;
    const life = this.#life;
    const { ports, name } = this.#host;
    const { promise, resolve, reject } = Promise.withResolvers<Listener>();
    scheduler.schedule(20 + random.below(80), `${name} listens on ${address.port}`, life, () => {
      const loopbackOnly = loopbackHosts.has(address.host);
      if (!isPort(address.port, 0)) return reject(listenRefused(`${address.host}:${address.port}`, "EINVAL"));
      if (!loopbackOnly && !anyHosts.has(address.host) && address.host !== name)
        return reject(listenRefused(`${address.host}:${address.port}`, "EADDRNOTAVAIL"));
      let port = address.port;
      while (port === 0 || (address.port === 0 && ports.get(port)?.life.alive === true)) port = 32_768 + random.below(28_000);
      if (ports.get(port)?.life.alive === true) return reject(listenRefused(`${address.host}:${port}`, "EADDRINUSE"));
      const bound: Bound = { life, loopbackOnly, accept };
      ports.set(port, bound);
      resolve({
        port,
        close: async () => {
          if (ports.get(port) === bound) ports.delete(port);
        },
      });
    });
    return promise;
  }

  connect(address: { host: string; port: number }, options?: { timeoutMs?: number }): Promise<Connection> {
    const internet = this.#internet;
    const { scheduler, random } = internet;
    const life = this.#life;
    const from = this.#host.name;
    const name = `${address.host}:${address.port}`;
    const timeoutMs = options?.timeoutMs ?? connectTimeoutMsDefault;
    const { promise, resolve, reject } = Promise.withResolvers<Connection>();
    if (!isPort(address.port, 1)) {
      reject(connectRefused(name, "EINVAL"));
      return promise;
    }
    let over = false;
    let wire: Wire | undefined;
    const timer = scheduler.schedule(timeoutMs * 1000, `${from} gives up connecting to ${name}`, life, () => {
      over = true;
      wire?.break("ECONNRESET");
      reject(connectTimedOut(name, timeoutMs));
    });
    const to = loopbackHosts.has(address.host) || anyHosts.has(address.host) ? from : address.host;
    const answer = (delayUs: number, what: string, run: () => void): void => {
      scheduler.schedule(delayUs, `${from} connecting to ${name}: ${what}`, life, () => {
        if (over || internet.isCut(from, to)) return;
        over = true;
        timer.cancel();
        run();
      });
    };
    const host = internet.known(to);
    if (host === undefined) {
      answer(1000 + random.below(5000), "no such host", () => reject(connectRefused(name, "ENOTFOUND")));
      return promise;
    }
    scheduler.schedule(internet.latencyUs(from, to), `${from} knocks at ${name}`, internet.life, () => {
      // What is lost is not sent again here: the caller's timeout ends it.
      if (!life.alive || over || internet.isCut(from, to) || !host.powered) return;
      const bound = host.ports.get(address.port);
      const back = internet.latencyUs(to, from);
      if (bound?.life.alive !== true || (bound.loopbackOnly && to !== from)) return answer(back, "refused", () => reject(connectRefused(name, "ECONNREFUSED")));
      const clientPort = 32_768 + random.below(28_000);
      wire = internet.wire({ machine: from, life, remote: name }, { machine: to, life: bound.life, remote: `${from}:${clientPort}` });
      const caller = wire.a;
      bound.accept(wire.b);
      answer(back, "accepted", () => resolve(caller));
    });
    return promise;
  }
}
