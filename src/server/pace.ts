import { setRuntimePace } from '../runtime.ts'

/** Requests of workers in a second from which on there are many: a sparing heap then takes a third of the time. */
const many = 30
/** Seconds without that after which memory is spared again. */
const calm = 10

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
 * @param set changes the pace of the whole process
 */
export function openPace(set: (pace: 'busy' | 'sparing') => void = setRuntimePace): Pace {
  let [requests, calmFor, isBusy] = [0, 0, false]
  const turn = (toBusy: boolean): void => {
    if (isBusy === toBusy) return
    isBusy = toBusy
    set(toBusy ? 'busy' : 'sparing')
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
