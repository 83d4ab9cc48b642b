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
