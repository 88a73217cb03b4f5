// A small table of commands over a Map, for tests of the protocol: GET, SET, DEL, MGET, and commands that wait, fail, hold and answer much.

import type { Answer, Call, CommandSpec } from "#wire/resp-command";

const one = { first: 1, last: 1, step: 1 };

export function inMemoryCommands(): CommandSpec[] {
  const values = new Map<string, Uint8Array>();
  const get: CommandSpec["run"] = ({ args, reply }) => {
    const value = values.get(args.text(1));
    if (value === undefined) reply.nil();
    else reply.bulkOf(value, 0, value.length);
  };
  const read = { flags: ["readonly", "fast"] as const, categories: ["string"], group: "string" };
  const write = { flags: ["write"] as const, categories: ["string"], group: "string" };
  const wait = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 5));
  let begun = 0;
  const beginTexts = async ({ args }: Call): Promise<Answer> => {
    const text = args.text(1);
    const ms = args.count > 2 ? Number(args.integer(2)) : 0;
    if (text === "began") {
      const before = begun;
      return (reply) => reply.integer(before);
    }
    begun += 1;
    if (ms > 0) await new Promise((resolve) => setTimeout(resolve, ms));
    if (text === "defect") throw new Error("the secret of a defect");
    return (reply) => {
      if (text === "broken answer") {
        reply.array(2);
        throw new Error("the secret of a defect");
      }
      if (text === "large") reply.bulkGiven(new Uint8Array(3_000_000).fill(120));
      else reply.bulk(text);
    };
  };
  return [
    {
      ...read,
      name: "get",
      arity: 2,
      keys: one,
      run: get,
      runMany(calls) {
        for (const call of calls) void get(call);
      },
    },
    {
      ...write,
      name: "set",
      arity: 3,
      keys: one,
      keyAccess: "W",
      run({ args, reply }) {
        values.set(args.text(1), args.bytes(2).slice());
        reply.ok();
      },
    },
    {
      ...write,
      name: "del",
      arity: -2,
      keys: { first: 1, last: -1, step: 1 },
      keyAccess: "W",
      run({ args, reply }) {
        let deleted = 0;
        for (let i = 1; i < args.count; i++) if (values.delete(args.text(i))) deleted += 1;
        reply.integer(deleted);
      },
    },
    {
      ...read,
      name: "mget",
      arity: -2,
      keys: { first: 1, last: -1, step: 1 },
      run({ args, reply }) {
        reply.array(args.count - 1);
        for (let i = 1; i < args.count; i++) {
          const value = values.get(args.text(i));
          if (value === undefined) reply.nil();
          else reply.bulk(value);
        }
      },
    },
    {
      ...read,
      name: "t.later",
      arity: 2,
      keys: undefined,
      async run({ args, reply }) {
        const text = args.text(1);
        await wait();
        reply.bulk(text);
      },
    },
    {
      // Answers its text after so many milliseconds: under way with others of its kind, and over before them or after. What began is counted: "began" asks.
      ...read,
      name: "t.begin",
      arity: -2,
      keys: undefined,
      begin: beginTexts,
      async run(call) {
        (await beginTexts(call))(call.reply);
      },
    },
    {
      ...read,
      name: "t.fail",
      arity: 2,
      keys: undefined,
      async run({ args, reply }) {
        const how = args.text(1);
        reply.array(2);
        if (how === "later") await wait();
        throw new Error("the secret of a defect");
      },
    },
    {
      ...write,
      name: "t.hold",
      arity: 2,
      keys: undefined,
      run(call) {
        const fails = call.args.is(1, "FAIL");
        call.reply.ok();
        call.hold(wait().then(() => (fails ? Promise.reject(new Error("the log is gone")) : undefined)));
      },
    },
    {
      ...read,
      name: "t.large",
      arity: 2,
      keys: undefined,
      run({ args, reply }) {
        reply.bulkGiven(new Uint8Array(Number(args.integer(1))).fill(120));
      },
    },
  ];
}
