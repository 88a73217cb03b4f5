// Which hosts only this machine reaches: what a port may listen on while nobody is named who may do what.

/** True for the names of this machine only. */
export function isLoopbackHost(host: string): boolean {
  return host === "localhost" || host === "::1" || host === "[::1]" || /^127(?:\.\d{1,3}){3}$/.test(host);
}
