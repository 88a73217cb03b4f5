// The ranker thread: takes requests from the mailbox, does them piece by piece, answers, sleeps until the bell rings.
// Invariants: 1. every request that was taken is answered, failed, or given back  2. between two pieces it looks for new requests, so a short one waits for at most one
// piece of another  3. it returns to its event loop at least every `turnMsMax`, so that it can be told to stop.
// Concurrency: reads the model through its own lane; writes only into the mailbox.

import { toMillraceError } from "#base/errors";
import { SlotRows } from "#extract/slot-rows";
import { createTopK } from "#kernel/dot-top-k";
import { LiveModel } from "#models/live-model";
import type { Clock } from "#platform/clock";
import type { WorkerBody } from "#platform/workers";
import { Bell } from "./bell.ts";
import { mailboxBells, MailboxReceiver, type TakenRequest } from "./mailbox.ts";
import { rankerReady, type RankerStart } from "./ranker-start.ts";
import { type RankingModel, type RankingTask, ScoreTask, SearchTask } from "./ranker.ts";
import { type Work, WorkList } from "./work-list.ts";

/** Longest time without a turn of the event loop. */
const turnMsMax = 20;
/** Time and rounds for the engine to compile what ranks. */
const warmUpMsMax = 300;
const warmUpRounds = 200;

/** A request under way. */
class Job implements Work {
  readonly request: TakenRequest;
  readonly batch: number;
  readonly #task: RankingTask;
  /** Hands the finished answer over. */
  readonly finish: (receiver: MailboxReceiver) => void;
  computeMs = 0;

  constructor(model: RankingModel, request: TakenRequest, batch: number) {
    this.request = request;
    this.batch = batch;
    const report = (): { computeUs: number; batch: number } => ({ computeUs: this.computeMs * 1_000, batch });
    if (request.kind === "score") {
      const logits = new Float32Array(request.items.rows);
      this.#task = new ScoreTask(model, request.user, request.items, logits);
      this.finish = (receiver) => receiver.answer(request, logits.length, logits, undefined, report());
      return;
    }
    const search = request.kind === "search" ? SearchTask.forUser(model, request.user, request.k) : SearchTask.like(model, request.item, request.k);
    this.#task = search;
    this.finish = (receiver) => {
      const found = search.answers(createTopK(request.k));
      receiver.answer(request, found.size, found.scores, found.rows, report());
    };
  }

  get left(): number {
    return this.#task.left;
  }

  get urgent(): boolean {
    return this.request.kind === "score";
  }

  advance(): boolean {
    return this.#task.advance();
  }
}

const body: WorkerBody = async ({ port, clock, data, signal }) => {
  const start = data as RankerStart;
  const model = LiveModel.attach(start.model, start.lane);
  const receiver = new MailboxReceiver(start.mailbox);
  const { words, requests, answers } = mailboxBells(start.mailbox);
  const requestBell = new Bell(words, requests);
  const answerBell = new Bell(words, answers);
  const through = start.bell === "messages" ? port : undefined;
  signal.addEventListener("abort", () => requestBell.ring(), { once: true });
  warmUp(model, clock);
  port.send(rankerReady);

  const works = new WorkList<Job>();
  let turnedMs = clock.monotonicMs();
  let looked = requestBell.rung - 1;
  while (!signal.aborted) {
    receiver.beat();
    const seen = requestBell.rung;
    if (seen !== looked) {
      looked = seen;
      takeAll(model, receiver, works, clock, () => answerBell.ring(through));
    }
    const job = works.next();
    if (job === undefined) {
      if (!(await requestBell.heard(seen, through))) return;
      turnedMs = clock.monotonicMs();
      continue;
    }
    const beganMs = clock.monotonicMs();
    if (workOn(job, receiver, clock, beganMs)) {
      works.drop(job);
      answerBell.ring(through);
    }
    if (clock.monotonicMs() - turnedMs > turnMsMax) {
      await clock.yield();
      turnedMs = clock.monotonicMs();
    }
  }
};

function takeAll(model: RankingModel, receiver: MailboxReceiver, works: WorkList<Job>, clock: Clock, ring: () => void): void {
  const taken = receiver.take();
  for (const request of taken) {
    const beganMs = clock.monotonicMs();
    try {
      const job = new Job(model, request, taken.length);
      job.computeMs = clock.monotonicMs() - beganMs;
      works.add(job);
    } catch (thrown) {
      receiver.fail(request, thrown);
      ring();
    }
  }
}

/** Does a piece of a job; true when its slot was handed back. */
function workOn(job: Job, receiver: MailboxReceiver, clock: Clock, beganMs: number): boolean {
  if (receiver.isAbandoned(job.request)) {
    receiver.fail(job.request, undefined);
    return true;
  }
  try {
    const done = job.advance();
    job.computeMs += clock.monotonicMs() - beganMs;
    if (done) job.finish(receiver);
    return done;
  } catch (thrown) {
    receiver.fail(job.request, toMillraceError(thrown, "the ranker failed"));
    return true;
  }
}

/** Ranks made-up candidates until the engine has compiled the way, so that the first real request does not pay for it. Reads the model, changes nothing. */
function warmUp(model: RankingModel, clock: Clock): void {
  const user = new SlotRows();
  const items = new SlotRows();
  const fill = (rows: SlotRows): void => {
    for (let slot = 0; slot < 24; slot++) {
      if (slot < 4) rows.addLinear(slot, rows.rows, 1);
      else rows.addFull(slot, rows.rows, 1);
    }
    rows.endRow();
  };
  fill(user);
  while (items.rows < 64) fill(items);
  const logits = new Float32Array(items.rows);
  const found = createTopK(20);
  const beganMs = clock.monotonicMs();
  for (let round = 0; round < warmUpRounds && clock.monotonicMs() - beganMs < warmUpMsMax; round++) {
    new ScoreTask(model, user, items, logits).advance();
    const search = SearchTask.forUser(model, user, found.rows.length);
    search.advance();
    search.answers(found);
    const like = SearchTask.like(model, found.size === 0 ? 0 : found.rows[0]!, found.rows.length);
    like.advance();
    like.answers(found);
  }
}

export default body;
