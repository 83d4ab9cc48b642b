import { setFlagsFromString } from 'node:v8'

/** Requests of workers in a second from which on there are many: a sparing heap then takes a third of the time. */
const many = 30
/** Seconds without that after which memory is spared again. */
const calm = 10

/** Flags of the runtime, which heed them at the next collection: to be sparing (as build.mjs says), or within bounds fast. */
const sparing = ['--optimize-for-size', '--heap-growing-percent=0']
const fast = ['--no-optimize-for-size', '--heap-growing-percent=40']

export type Pace = {
  /** A worker has asked for something. */
  asked: () => void
  /** A second is over. */
  tick: () => void
  stop: () => void
}

/**
 * Spends memory on speed only while many workers report: then objects come and go, and tidying up after each few would
 * be most of the work. Imports and long lists, which need the most memory, are as fast with a sparing heap.
 * @param set changes flags of the runtime, for the whole process
 */
export function openPace(set: (flag: string) => void = setFlagsFromString): Pace {
  let [requests, calmFor, isFast] = [0, 0, false]
  const turn = (toFast: boolean): void => {
    if (isFast === toFast) return
    isFast = toFast
    for (const flag of toFast ? fast : sparing) set(flag)
  }
  const tick = (): void => {
    calmFor = requests >= many ? 0 : calmFor + 1
    requests = 0
    if (calmFor === 0) turn(true)
    else if (calmFor >= calm) turn(false)
  }
  const timer = setInterval(tick, 1000).unref()
  return {
    asked: () => void requests++,
    tick,
    stop() {
      clearInterval(timer)
      turn(false)
    },
  }
}
