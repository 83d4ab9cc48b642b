import { setFlagsFromString } from 'node:v8'

/**
 * What the executable gives the runtime when it starts (build.mjs): less room for young objects, and none kept for
 * later. As fast for servers, workers and syncs, and two hundred megabytes less in all. And leave to ask for what
 * `dropDeadBuffers` does.
 */
export const startFlags = ['--max-semi-space-size=2', '--optimize-for-size', '--expose-gc'] as const

/**
 * Frees the memory of buffers that nobody needs any more, in less than a millisecond. Their bytes lie outside of the
 * heap: the runtime lets them come to 32 MB before it looks, however little room young objects have.
 */
export function dropDeadBuffers(): void {
  globalThis.gc?.({ type: 'minor' })
}

/**
 * Flags for each pace; the runtime heeds them at the next collection (`node --v8-options`).
 * - sparing: as the executable is started, for what runs for months or reads more than fits into memory;
 * - fast: for what has done its work in a second and need not tidy up meanwhile;
 * - busy: fast within bounds, for a worker, and for a server while objects come and go.
 */
export const paceFlags = {
  sparing: ['--optimize-for-size', '--heap-growing-percent=0'],
  fast: ['--no-optimize-for-size'],
  busy: ['--no-optimize-for-size', '--heap-growing-percent=40'],
} as const
export type RuntimePace = keyof typeof paceFlags

/**
 * Tells the runtime what to spare, memory or time, from now on and for the whole process.
 * @param set changes one flag of the runtime
 */
export function setRuntimePace(pace: RuntimePace, set: (flag: string) => void = setFlagsFromString): void {
  for (const flag of paceFlags[pace]) set(flag)
}
