// The errors of sockets, the same for the machine's network and its simulated twin.

import { MillraceError } from "#base/errors";

export function connectionBroke(remote: string, code: string, cause?: unknown): MillraceError {
  return new MillraceError("unavailable", `the connection to ${remote} broke (${code})`, { cause, todo: "connect again" });
}

export function connectionClosed(remote: string): MillraceError {
  return new MillraceError("unavailable", `the connection to ${remote} is closed`, { todo: "connect again" });
}

export function connectRefused(remote: string, code: string, cause?: unknown): MillraceError {
  return new MillraceError("unavailable", `cannot connect to ${remote} (${code})`, { cause, todo: "look whether it runs and can be reached, then try again" });
}

export function connectTimedOut(remote: string, timeoutMs: number): MillraceError {
  return new MillraceError("timeout", `no answer from ${remote} within ${timeoutMs} ms of connecting`, {
    todo: "look whether it can be reached, then try again",
  });
}

export function listenRefused(address: string, code: string, cause?: unknown): MillraceError {
  if (code === "EADDRINUSE") {
    return new MillraceError("conflict", `cannot listen on ${address}, the port is taken`, { cause, todo: "stop what listens there, or choose another port" });
  }
  return new MillraceError("invalid", `cannot listen on ${address} (${code})`, {
    cause,
    todo: "choose a host of this machine and a port that this user may take",
  });
}

export function isPort(port: number, lowest: number): boolean {
  return Number.isInteger(port) && port >= lowest && port <= 65_535;
}
