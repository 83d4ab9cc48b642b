/** Runs one after the other what it is given, whatever became of the one before. */
export function oneAtATime(): <T>(work: () => Promise<T>) => Promise<T> {
  let last: Promise<unknown> = Promise.resolve()
  return (work) => {
    const next = last.then(work)
    last = next.catch(() => undefined)
    return next
  }
}

/** Runs what it is given, at most so many at once, in the order it came. */
export function someAtATime(most: number): <T>(work: () => Promise<T>) => Promise<T> {
  const waiting: (() => void)[] = []
  let running = 0
  return async (work) => {
    if (running >= most) await new Promise<void>((resolve) => waiting.push(resolve))
    else running++
    try {
      return await work()
    } finally {
      const next = waiting.shift()
      if (next === undefined) running--
      else next() // takes the place of this one
    }
  }
}

/**
 * Does something again and again, never twice at once: what takes longer than the milliseconds between puts the next time
 * off, so that on a busy machine nothing queues up.
 * @param work never fails
 * @returns ends it, when what is under way is done
 */
export function againAndAgain(work: () => Promise<void>, pause: number): () => Promise<void> {
  let running: Promise<void> | null = null
  const timer = setInterval(() => {
    running ??= work().finally(() => (running = null))
  }, pause)
  return async () => {
    clearInterval(timer)
    await running
  }
}

/**
 * Reads once for all who ask for the same at the same moment: those that were heard in one turn of the event loop, and
 * those that come while it is being read share the reading after that. So each is told what was committed before.
 * @returns a function that reads what is told apart by a key
 */
export function readingTogether<T>(): (key: string, read: () => Promise<T>) => Promise<T> {
  const under = new Map<string, Promise<unknown>>()
  const next = new Map<string, Promise<T>>()
  return (key, read) => {
    const known = next.get(key)
    if (known !== undefined) return known
    const asked = (under.get(key) ?? new Promise(setImmediate)).then(() => {
      next.delete(key)
      const reading = read()
      const settled = reading
        .catch(() => undefined)
        .finally(() => {
          if (under.get(key) === settled) under.delete(key)
        })
      under.set(key, settled)
      return reading
    })
    next.set(key, asked)
    return asked
  }
}
