// The configuration of the learned model: what it sees (fields), how it learns, which samples it gets, how much memory it takes.
// Invariants: 1. every number has a name, its unit in the name, and a range here  2. the extractor's id follows from `fields` and `crosses` alone: a change of them
// makes a new model that begins with the log's first record  3. without this section a gateway ranks by counts only.

import Type, { type Static } from "typebox";

const closed = { additionalProperties: false } as const;
const Positive = Type.Number({ exclusiveMinimum: 0 });
const name = Type.String({ pattern: "^[a-z][A-Za-z0-9_-]{0,63}$" });

const Field = Type.Object(
  {
    name,
    /** Where the raw value comes from: `user.id`, `user.attributes.NAME`, `item.category`, `signal.counting`, ... (docs/design/extract.md). */
    from: Type.String({ minLength: 1, maxLength: 128 }),
    kind: Type.Union([Type.Literal("id"), Type.Literal("ids"), Type.Literal("linear"), Type.Literal("bucket")]),
    max: Type.Optional(Type.Integer({ minimum: 1, maximum: 256 })),
    bounds: Type.Optional(Type.Array(Type.Number(), { minItems: 1, maxItems: 256 })),
    linearOnly: Type.Optional(Type.Boolean()),
    initial: Type.Optional(Type.Number()),
  },
  closed,
);

export const ModelConfig = Type.Object(
  {
    fields: Type.Array(Field, { minItems: 1, maxItems: 64 }),
    crosses: Type.Optional(Type.Array(Type.Object({ name, cross: Type.Tuple([name, name]) }, closed), { maxItems: 32 })),
    /** The weight that the bias of a new model begins with; default 0. */
    initialBias: Type.Optional(Type.Number()),
    /** Numbers of a vector. */
    factors: Type.Integer({ minimum: 4, maximum: 64, multipleOf: 4 }),
    /** Parameter rows at most; each takes about 200 bytes at 16 factors. */
    capacityRows: Type.Integer({ minimum: 1_024, maximum: 16_000_000 }),
    /** Items that the model ranks at most; further ones are ranked by counts. */
    itemsMax: Type.Integer({ minimum: 16, maximum: 4_000_000 }),
    slotsPerItemMax: Type.Integer({ minimum: 1, maximum: 256 }),
    /** Begins the random numbers of new rows and the choice of negatives; an integer. */
    seed: Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }),
    optimizer: Type.Union([Type.Literal("adagrad"), Type.Literal("rowwise-adagrad"), Type.Literal("sgd")]),
    initialScale: Positive,
    initialAccumulator: Type.Number({ minimum: 0 }),
    rate: Type.Object({ linear: Positive, factors: Positive }, closed),
    l2: Type.Object({ linear: Type.Number({ minimum: 0 }), factors: Type.Number({ minimum: 0 }) }, closed),
    samples: Type.Object(
      {
        /** Event types that make an item that was shown a positive. */
        positiveTypes: Type.Array(Type.String(), { minItems: 1, maxItems: 64 }),
        /** An item without such an event is a negative after so long. */
        windowSeconds: Type.Number({ exclusiveMinimum: 0, maximum: 7 * 86_400 }),
        /** An event behind the window still counts for so long. */
        latenessSeconds: Type.Number({ minimum: 0, maximum: 7 * 86_400 }),
        /** What a gap between two records counts at most, in windows: a standstill stops them. Default 1; a shop with an event an hour takes more. */
        gapSeconds: Type.Optional(Type.Number({ exclusiveMinimum: 0, maximum: 7 * 86_400 })),
        /** Share of negatives that is learned from; probabilities are corrected for it. */
        negativeRate: Type.Number({ exclusiveMinimum: 0, maximum: 1 }),
        openAnswersMax: Type.Integer({ minimum: 16, maximum: 10_000_000 }),
      },
      closed,
    ),
    checkpointSeconds: Type.Number({ minimum: 1, maximum: 86_400 }),
  },
  closed,
);
export type ModelConfig = Static<typeof ModelConfig>;

/** How a pipeline is ranked by the model. */
export const ModelRank = Type.Object(
  {
    /** The model answers within so many milliseconds, or the weighted score stands. */
    deadlineMs: Type.Integer({ minimum: 1, maximum: 1_000 }),
    /** Added for what was hardly shown yet, in logits: 1 x this for what never was. */
    explore: Type.Number({ minimum: -10, maximum: 10 }),
  },
  closed,
);
export type ModelRank = Static<typeof ModelRank>;
