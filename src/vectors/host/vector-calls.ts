// Messages between the serving loop and the vectors thread: the calls of a turn in one message, the answers of a turn in one message.
// Why: a message costs 10 to 40 us on either side however small it is; two thousand writes a second in messages of their own would take a tenth of a core.
// Numbers of all calls of a message lie in one array, call i has its part of it: a typed array is copied with the whole buffer behind it, which may be a socket's.
// Invariants: 1. each call is answered once, by its id, or the thread has died  2. what changed of a collection is told no later than the answer to the call that changed it.
// Limits: those of vectorLimits; checked by the side that asks.

import type { FailureMessage } from "#platform/worker-failure";
import type { CollectionShape, VectorsStatus } from "../vector-service.ts";

/** Where the numbers of a call lie in `CallsMessage.numbers`. */
export interface NumbersPart {
  readonly from: number;
  readonly count: number;
}

export type VectorCall =
  | { readonly id: number; readonly call: "create"; readonly collection: string; readonly shape: CollectionShape }
  | { readonly id: number; readonly call: "drop"; readonly collection: string }
  | {
      readonly id: number;
      readonly call: "upsert";
      readonly collection: string;
      readonly elements: readonly string[];
      readonly vectors: NumbersPart;
      readonly attributes?: readonly (string | undefined)[];
    }
  | { readonly id: number; readonly call: "remove"; readonly collection: string; readonly elements: readonly string[] }
  | {
      readonly id: number;
      readonly call: "attributes";
      readonly collection: string;
      readonly elements: readonly string[];
      readonly attributes: readonly string[];
    }
  | { readonly id: number; readonly call: "get"; readonly collection: string; readonly elements: readonly string[] }
  | { readonly id: number; readonly call: "count"; readonly collection: string }
  | { readonly id: number; readonly call: "status"; readonly collection: string }
  | { readonly id: number; readonly call: "random"; readonly collection: string; readonly count: number }
  | {
      readonly id: number;
      readonly call: "search";
      readonly collection: string;
      readonly version?: string;
      readonly queries: NumbersPart | { readonly element: string };
      readonly count: number;
      readonly filter?: string;
      readonly exact?: boolean;
      readonly withAttributes?: boolean;
      readonly probes?: number;
      readonly timeoutMs?: number;
    };

/** To the thread. */
export interface CallsMessage {
  readonly calls: readonly VectorCall[];
  readonly numbers: Float32Array<ArrayBuffer>;
}

/** What the asking side knows of a collection without asking; `shape` undefined: it is gone. */
export interface CollectionNews {
  readonly collection: string;
  readonly shape: CollectionShape | undefined;
  /** Switches of versions that answers may show, since the thread began. */
  readonly switches: number;
}

export interface CallAnswer {
  readonly id: number;
  /** As VectorService says for the call; of a write of one row its flag alone: a number is sent in half the time of an array of one. */
  readonly value?: unknown;
  readonly failure?: FailureMessage;
}

/** From the thread. */
export interface AnswersMessage {
  readonly answers: readonly CallAnswer[];
  readonly news?: readonly CollectionNews[];
  readonly status?: VectorsStatus;
  readonly warnings?: readonly string[];
  /** Every collection of the data folder has been told, opened or not: what was not is the name of none. */
  readonly named?: true;
  /** Every collection of the data folder and of the configuration is open, or its failure is told. */
  readonly ready?: true;
}
