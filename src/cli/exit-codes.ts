// What the commands end with: 0 done, 1 failed, 2 the command line was wrong (main.ts), and:

/** The version was published, and a node that follows it refused it. */
export const refusedExitCode = 3;
