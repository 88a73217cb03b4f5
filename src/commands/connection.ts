// The commands on the connection itself: who speaks, in which protocol, under which name; and CLIENT, about all connections. Texts as redis-server 7.0.15.
// Limits: a name has printable characters only. CLIENT TRACKING is not there and answers as an unknown subcommand does.

import type { Access } from "#wire/access-users";
import type { Args, Call, CommandSpec, Session } from "#wire/resp-command";
import type { ClientSession } from "#wire/resp-session";
import { helpOf, redisVersion } from "./server-facts.ts";

const noKeys = undefined;
const category = ["connection"];
const wrongPass = "WRONGPASS invalid username-password pair or user is disabled.";
const badName = "ERR Client names cannot contain spaces, newlines or special characters.";

/** The session as the server keeps it. */
export function clientOf(session: Session): ClientSession {
  return session.server.sessions.get(session.id)!;
}

/** Characters from ! to ~ only; the empty name takes the name away. */
function isName(args: Args, i: number): boolean {
  for (let at = args.start(i); at < args.end(i); at++) {
    const byte = args.buffer[at]!;
    if (byte < 33 || byte > 126) return false;
  }
  return true;
}

/** One line of CLIENT LIST. */
function lineOf(client: ClientSession): string {
  const { server } = client;
  const fields: Record<string, string | number> = {
    id: client.id,
    addr: client.remote,
    laddr: client.local,
    fd: -1,
    name: client.name,
    age: Math.floor((server.clock.monotonicMs() - client.sinceMs) / 1000),
    idle: client.idleSeconds,
    flags: `${client.gate === undefined ? "" : "x"}${client.noEvict ? "e" : ""}${client.noTouch ? "T" : ""}` || "N",
    db: client.database,
    sub: 0,
    psub: 0,
    ssub: 0,
    multi: client.gate === undefined ? -1 : 0,
    qbuf: client.inputBytes,
    "qbuf-free": client.inputRoom - client.inputBytes,
    "argv-mem": 0,
    "multi-mem": 0,
    rbs: 0,
    rbp: 0,
    obl: 0,
    oll: client.outputPieces,
    omem: client.outputBytes,
    "tot-mem": client.inputRoom + client.outputBytes,
    events: "r",
    cmd: client.lastCommand?.spec.name ?? "NULL",
    user: client.user.name,
    redir: -1,
    resp: client.protocol,
    "lib-name": client.libraryName,
    "lib-ver": client.libraryVersion,
  };
  return Object.entries(fields)
    .map(([name, value]) => `${name}=${value}`)
    .join(" ");
}

const clientTypes = new Set(["normal", "master", "replica", "slave", "pubsub"]);

/** `accessOf`: the authenticator is made of the table that these commands stand in. */
export function connectionCommands(accessOf: () => Access): CommandSpec[] {
  /** Makes the session this user's; false after the refusal was counted and noted. */
  const authenticate = (client: ClientSession, name: string, password: Uint8Array): boolean => {
    const user = accessOf().check(name, password);
    if (user === undefined) {
      client.server.metrics.authFailures += 1;
      const object = name.slice(0, 128);
      accessOf().refused({ reason: "auth", object, user: object, context: "toplevel", client: lineOf(client) });
      return false;
    }
    client.user = user;
    client.authenticated = true;
    return true;
  };

  const auth = ({ args, session, reply }: Call): void => {
    if (args.count > 3) {
      reply.error("ERR syntax error");
      return;
    }
    if (args.count === 2 && !accessOf().required && accessOf().defaultUser.enabled) {
      reply.error("ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?");
      return;
    }
    const name = args.count === 3 ? args.text(1) : "default";
    if (authenticate(clientOf(session), name, args.bytes(args.count - 1))) reply.ok();
    else reply.error(wrongPass);
  };

  const hello = ({ args, session, reply }: Call): void => {
    const client = clientOf(session);
    let version = 0;
    if (args.count >= 2) {
      const given = args.integer(1);
      if (given === undefined) {
        reply.error("ERR Protocol version is not an integer or out of range");
        return;
      }
      if (given !== 2 && given !== 3) {
        reply.error("NOPROTO unsupported protocol version");
        return;
      }
      version = given;
    }
    for (let i = 2; i < args.count; i++) {
      const more = args.count - 1 - i;
      if (args.is(i, "AUTH") && more >= 2) {
        if (!authenticate(client, args.text(i + 1), args.bytes(i + 2))) {
          reply.error(wrongPass);
          return;
        }
        i += 2;
      } else if (args.is(i, "SETNAME") && more >= 1) {
        if (!isName(args, i + 1)) {
          reply.error(badName);
          return;
        }
        client.name = args.text(i + 1);
        i += 1;
      } else {
        reply.error(`ERR Syntax error in HELLO option '${args.text(i)}'`);
        return;
      }
    }
    if (!client.authenticated && accessOf().required) {
      reply.error(
        "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time",
      );
      return;
    }
    if (version === 2 || version === 3) client.protocol = version;
    reply.map(7);
    for (const [name, value] of [
      ["server", "redis"],
      ["version", redisVersion],
      ["proto", client.protocol],
      ["id", client.id],
      ["mode", "standalone"],
      ["role", "master"],
    ] as const) {
      reply.bulk(name);
      if (typeof value === "number") reply.integer(value);
      else reply.bulk(value);
    }
    reply.bulk("modules");
    reply.array(0);
  };

  const select = ({ args, session, reply }: Call): void => {
    const database = args.integer(1);
    if (database === undefined) reply.error("ERR value is not an integer or out of range");
    else if (database > 0x7fffffff || database < -0x80000000) reply.error("ERR value is out of range, value must between -2147483648 and 2147483647");
    else if (database !== 0) reply.error("ERR DB index is out of range");
    else {
      session.database = 0;
      reply.ok();
    }
  };

  const reset = ({ session, reply }: Call): void => {
    const client = clientOf(session);
    client.forget();
    client.protocol = 2;
    client.name = "";
    client.database = 0;
    client.replyMode = "on";
    client.noEvict = false;
    client.noTouch = false;
    client.user = accessOf().defaultUser;
    client.authenticated = !accessOf().required;
    reply.simple("RESET");
  };

  const kill = ({ args, session, reply }: Call): void => {
    const { sessions } = session.server;
    if (args.count === 3) {
      for (const client of sessions.values()) {
        if (client.remote !== args.text(2)) continue;
        client.close();
        reply.ok();
        return;
      }
      reply.error("ERR No such client");
      return;
    }
    let skipSelf = true;
    const tests: ((client: ClientSession) => boolean)[] = [];
    for (let i = 2; i < args.count; i += 2) {
      if (i + 1 >= args.count) {
        reply.error("ERR syntax error");
        return;
      }
      const text = args.text(i + 1);
      if (args.is(i, "ID")) {
        const id = args.integer(i + 1);
        if (id === undefined || id <= 0) {
          reply.error("ERR client-id should be greater than 0");
          return;
        }
        tests.push((client) => client.id === Number(id));
      } else if (args.is(i, "TYPE")) {
        if (!clientTypes.has(text.toLowerCase())) {
          reply.error(`ERR Unknown client type '${text}'`);
          return;
        }
        tests.push(() => text.toLowerCase() === "normal");
      } else if (args.is(i, "ADDR")) tests.push((client) => client.remote === text);
      else if (args.is(i, "LADDR")) tests.push((client) => client.local === text);
      else if (args.is(i, "USER")) {
        if (accessOf().user(text) === undefined) {
          reply.error(`ERR No such user '${text}'`);
          return;
        }
        tests.push((client) => client.user.name === text);
      } else if (args.is(i, "SKIPME") && (args.is(i + 1, "YES") || args.is(i + 1, "NO"))) skipSelf = args.is(i + 1, "YES");
      else {
        reply.error("ERR syntax error");
        return;
      }
    }
    let killed = 0;
    for (const client of [...sessions.values()]) {
      if ((skipSelf && client.id === session.id) || !tests.every((test) => test(client))) continue;
      killed += 1;
      // The own answer still goes out.
      client.close(client.id === session.id);
    }
    reply.integer(killed);
  };

  const list = ({ args, session, reply }: Call): void => {
    const { sessions } = session.server;
    let shown = [...sessions.values()];
    if (args.count > 2) {
      if (args.is(2, "TYPE") && args.count === 4) {
        const type = args.text(3).toLowerCase();
        if (!clientTypes.has(type)) {
          reply.error(`ERR Unknown client type '${args.text(3)}'`);
          return;
        }
        if (type !== "normal") shown = [];
      } else if (args.is(2, "ID") && args.count > 3) {
        const ids = new Set<number>();
        for (let i = 3; i < args.count; i++) {
          const id = args.integer(i);
          if (id === undefined || id <= 0) {
            reply.error("ERR Invalid client ID");
            return;
          }
          ids.add(Number(id));
        }
        shown = shown.filter(({ id }) => ids.has(id));
      } else {
        reply.error("ERR syntax error");
        return;
      }
    }
    reply.verbatim("txt", shown.map((client) => `${lineOf(client)}\n`).join(""));
  };

  const pause = ({ args, session, reply }: Call): void => {
    if (args.count > 4) {
      reply.error("ERR syntax error");
      return;
    }
    const all = args.count < 4 || args.is(3, "ALL");
    if (!all && !args.is(3, "WRITE")) {
      reply.error("ERR CLIENT PAUSE mode must be WRITE or ALL");
      return;
    }
    const ms = args.integer(2);
    if (ms === undefined) reply.error("ERR timeout is not an integer or out of range");
    else if (ms < 0) reply.error("ERR timeout is negative");
    else {
      const { server } = session;
      server.pause({ untilMs: server.clock.monotonicMs() + Number(ms), all });
      reply.ok();
    }
  };

  const setInfo = ({ args, session, reply }: Call): void => {
    const client = clientOf(session);
    const isLibName = args.is(2, "LIB-NAME");
    if (!isLibName && !args.is(2, "LIB-VER")) reply.error(`ERR Unrecognized option '${args.text(2)}'`);
    else if (!isName(args, 3)) reply.error(`ERR ${args.text(2).toLowerCase()} cannot contain spaces, newlines or special characters.`);
    else {
      if (isLibName) client.libraryName = args.text(3);
      else client.libraryVersion = args.text(3);
      reply.ok();
    }
  };

  const replyMode = ({ args, session, reply }: Call): void => {
    const client = clientOf(session);
    if (args.is(2, "ON")) {
      client.replyMode = "on";
      reply.ok();
    } else if (args.is(2, "OFF")) client.replyMode = "off";
    else if (args.is(2, "SKIP")) {
      if (client.replyMode !== "off") client.replyMode = "skip next";
    } else reply.error("ERR syntax error");
  };

  const onOff =
    (set: (client: ClientSession, on: boolean) => void) =>
    ({ args, session, reply }: Call): void => {
      if (!args.is(2, "ON") && !args.is(2, "OFF")) {
        reply.error("ERR syntax error");
        return;
      }
      set(clientOf(session), args.is(2, "ON"));
      reply.ok();
    };

  const setName = ({ args, session, reply }: Call): void => {
    if (!isName(args, 2)) {
      reply.error(badName);
      return;
    }
    session.name = args.text(2);
    reply.ok();
  };

  const unblock = ({ args, reply }: Call): void => {
    if (args.count > 3 && !args.is(3, "TIMEOUT") && !args.is(3, "ERROR")) reply.error("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR");
    else if (args.integer(2) === undefined) reply.error("ERR value is not an integer or out of range");
    // No command blocks.
    else reply.integer(0);
  };

  const base = { categories: category, keys: noKeys, group: "connection" };
  const plain = { ...base, flags: ["noscript", "loading", "stale"] as const };
  const free = { ...base, flags: ["noscript", "loading", "stale", "fast", "no_auth", "allow_busy"] as const };
  const admin = { ...base, flags: ["admin", "noscript", "loading", "stale"] as const };
  return [
    { ...free, name: "auth", arity: -2, since: "1.0.0", summary: "Says who speaks", run: auth },
    { ...free, name: "hello", arity: -1, since: "6.0.0", summary: "Chooses the protocol, and says who speaks", run: hello },
    { ...free, name: "quit", arity: -1, since: "1.0.0", summary: "Closes the connection", run: ({ session, reply }) => (reply.ok(), session.close()) },
    { ...free, name: "reset", arity: 1, since: "6.2.0", summary: "Makes the connection as new", run: reset },
    {
      ...base,
      flags: ["fast"],
      name: "ping",
      arity: -1,
      since: "1.0.0",
      summary: "Answers",
      run: ({ args, reply }) => {
        if (args.count > 2) reply.error("ERR wrong number of arguments for 'ping' command");
        else if (args.count === 2) reply.bulkOf(args.buffer, args.start(1), args.end(1) - args.start(1));
        else reply.simple("PONG");
      },
    },
    {
      ...base,
      flags: ["loading", "stale", "fast"],
      name: "echo",
      arity: 2,
      since: "1.0.0",
      summary: "Answers its argument",
      run: ({ args, reply }) => reply.bulk(args.bytes(1)),
    },
    { ...base, flags: ["loading", "stale", "fast"], name: "select", arity: 2, since: "1.0.0", summary: "Chooses the database; there is one, 0", run: select },
    { ...plain, name: "client|id", arity: 2, since: "5.0.0", summary: "Id of this connection", run: ({ session, reply }) => reply.integer(session.id) },
    {
      ...plain,
      name: "client|getname",
      arity: 2,
      since: "2.6.9",
      summary: "Name of this connection",
      run: ({ session, reply }) => (session.name === "" ? reply.nil() : reply.bulk(session.name)),
    },
    { ...plain, name: "client|setname", arity: 3, since: "2.6.9", summary: "Names this connection", run: setName },
    { ...plain, name: "client|setinfo", arity: 4, since: "7.2.0", summary: "Names the client library", run: setInfo },
    { ...admin, name: "client|list", arity: -2, since: "2.4.0", summary: "All connections", run: list },
    {
      ...plain,
      name: "client|info",
      arity: 2,
      since: "6.2.0",
      summary: "This connection",
      run: ({ session, reply }) => reply.verbatim("txt", `${lineOf(clientOf(session))}\n`),
    },
    { ...admin, name: "client|kill", arity: -3, since: "2.4.0", summary: "Closes connections", run: kill },
    { ...admin, name: "client|pause", arity: -3, since: "3.0.0", summary: "Lets calls wait", run: pause },
    {
      ...admin,
      name: "client|unpause",
      arity: 2,
      since: "6.2.0",
      summary: "Ends a pause",
      run: ({ session, reply }) => (session.server.unpause(), reply.ok()),
    },
    { ...plain, name: "client|reply", arity: 3, since: "3.2.0", summary: "Switches replies off and on", run: replyMode },
    { ...admin, name: "client|unblock", arity: -3, since: "5.0.0", summary: "Nothing blocks: always 0", run: unblock },
    { ...admin, name: "client|no-evict", arity: 3, since: "7.0.0", summary: "Accepted, without effect", run: onOff((client, on) => (client.noEvict = on)) },
    { ...plain, name: "client|no-touch", arity: 3, since: "7.2.0", summary: "Accepted, without effect", run: onOff((client, on) => (client.noTouch = on)) },
    {
      ...plain,
      flags: ["loading", "stale"],
      name: "client|help",
      arity: 2,
      since: "5.0.0",
      summary: "Lists the subcommands",
      run: (call) => helpOf(call, "client"),
    },
  ];
}
