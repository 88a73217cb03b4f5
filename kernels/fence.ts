// The order of memory accesses among threads, where rows are written while others read them.

/**
 * Keeps what is before it before what is after it, for the compiler and the machine. `word`: an aligned scratch word of this thread.
 * A read-modify-write, because the compiler in use refuses its own fence instruction; on x86-64 it is the cheaper of the two as well.
 */
export function fence(word: usize): void {
  atomic.add<u32>(word, 0);
}
