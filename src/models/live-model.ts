// The live model: parameters, slots of items and their vectors in one shared memory, so that the trainer writes what the ranker reads the same moment.
// Why one memory: a kernel sees one, and every thread passes one ticket. Each thread has a lane of its own for the arguments of its calls.
// Who writes what: the serving loop `items`; the trainer `machine` and `vectors`. Everybody reads everything; how torn rows are kept out stands with each part.
// Invariants: 1. the row of an item in `items` and `vectors` is its catalogue handle  2. a vector is `factors` numbers and the item's own part of the logit
// (dims = factors + 1), its cosine that of the factors.
// Cost: bytes = those of the three parts; memory is touched as rows are written.
// Limits: those of the parts; 4 GiB in all.

import { FactorisationMachine, type FmOptions } from "./factorisation-machine.ts";
import { ItemSlots } from "./item-slots.ts";
import { KernelMemory, kernelMemoryLimits, type KernelMemoryShape } from "#kernel/kernel-memory";
import type { WasmMemory } from "#kernel/web-assembly";
import { LiveVectors } from "#vectors/live-vectors";

/** Lanes by thread. Further rankers take the ones behind. */
export const modelLane = { serving: 0, trainer: 1, ranker: 2 } as const;

export interface LiveModelShape {
  readonly machine: FmOptions;
  /** Items with slots and vectors: handles below it. */
  readonly itemsMax: number;
  readonly slotsPerItemMax: number;
  /** Threads that ever join. Default 3. */
  readonly lanes?: number;
  /** Default 1 MiB: bounds what one kernel call takes at once. */
  readonly laneBytes?: number;
}

/** What another thread joins with; goes through messages, the memory shared. */
export interface LiveModelTicket {
  readonly memory: WasmMemory;
  readonly machineAt: number;
  readonly itemsAt: number;
  readonly vectorsAt: number;
}

export class LiveModel {
  readonly memory: KernelMemory;
  readonly machine: FactorisationMachine;
  readonly items: ItemSlots;
  readonly vectors: LiveVectors;

  private constructor(memory: KernelMemory, machine: FactorisationMachine, items: ItemSlots, vectors: LiveVectors) {
    this.memory = memory;
    this.machine = machine;
    this.items = items;
    this.vectors = vectors;
  }

  /** Bytes of the data of a model. Throws `invalid` for a shape that cannot be. */
  static bytesFor(shape: LiveModelShape): number {
    return parts(shape).reduce((sum, bytes) => sum + Math.ceil(bytes / 64) * 64, 0);
  }

  /** An untrained model; the caller's thread has lane 0. Throws `invalid` for a shape that cannot be. */
  static create(shape: LiveModelShape): LiveModel {
    const memory = KernelMemory.create(memoryShape(shape));
    const machine = FactorisationMachine.create(memory, shape.machine);
    const items = ItemSlots.create(memory, { itemsMax: shape.itemsMax, slotsMax: shape.slotsPerItemMax });
    const vectors = LiveVectors.create(memory, vectorsShape(shape));
    return new LiveModel(memory, machine, items, vectors);
  }

  /** Joins the model of a ticket by a lane that no other thread uses. */
  static attach(ticket: LiveModelTicket, lane: number): LiveModel {
    const memory = KernelMemory.attach(ticket.memory, lane);
    return new LiveModel(
      memory,
      FactorisationMachine.attach(memory, ticket.machineAt),
      ItemSlots.attach(memory, ticket.itemsAt),
      LiveVectors.attach(memory, ticket.vectorsAt),
    );
  }

  get ticket(): LiveModelTicket {
    return { memory: this.memory.memory, machineAt: this.machine.at, itemsAt: this.items.at, vectorsAt: this.vectors.at };
  }

  /** Bytes of the whole memory, used or not. */
  get bytes(): number {
    return this.memory.bytes.length;
  }
}

function vectorsShape({ machine, itemsMax }: LiveModelShape): { rowsMax: number; dims: number; cosineDims: number } {
  return { rowsMax: itemsMax, dims: machine.factors + 1, cosineDims: machine.factors };
}

function parts(shape: LiveModelShape): number[] {
  return [
    FactorisationMachine.bytesFor(shape.machine),
    ItemSlots.bytesFor({ itemsMax: shape.itemsMax, slotsMax: shape.slotsPerItemMax }),
    LiveVectors.bytesFor(vectorsShape(shape)),
  ];
}

function memoryShape(shape: LiveModelShape): KernelMemoryShape {
  return { dataBytes: LiveModel.bytesFor(shape), lanes: shape.lanes ?? 3, laneBytes: shape.laneBytes ?? kernelMemoryLimits.laneBytesDefault };
}
