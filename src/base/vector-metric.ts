// How vectors are compared: one word for kernels, engine, wire and SDK.

/** Scores: cosine and ip (inner product), larger is nearer; l2, the squared distance, smaller is nearer. */
export type VectorMetric = "cosine" | "ip" | "l2";
