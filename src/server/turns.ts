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
 * Reads once for all who ask for the same at the same moment. Whoever comes while it is being read shares the reading
 * after that, which sees what was committed before it was asked for.
 * @returns a function that reads what is told apart by a key
 */
export function readingTogether<T>(): (key: string, read: () => Promise<T>) => Promise<T> {
  const under = new Map<string, Promise<T>>()
  const next = new Map<string, Promise<T>>()
  const start = (key: string, read: () => Promise<T>): Promise<T> => {
    const reading = read().finally(() => {
      if (under.get(key) === reading) under.delete(key)
    })
    under.set(key, reading)
    return reading
  }
  return (key, read) => {
    const reading = under.get(key)
    if (reading === undefined) return start(key, read)
    const known = next.get(key)
    if (known !== undefined) return known
    const after = reading
      .catch(() => undefined)
      .then(() => {
        next.delete(key)
        return start(key, read)
      })
    next.set(key, after)
    return after
  }
}
