/** For how many times as long as it took to make something costly is told again. */
const patience = 10

/**
 * Whether what was costly to make is told again, though the data has moved on.
 * @param costly milliseconds from which it was
 * @param took milliseconds it took, up to `madeAt` of `performance.now()`
 */
export function isToldAgain(costly: number, took: number, madeAt: number): boolean {
  return took > costly && performance.now() - madeAt < patience * took
}

/** Milliseconds for which a costly answer is given again. */
const keptMs = 2000

/**
 * Gives an answer that was costly to all who ask within the next two seconds, so that they cost no more than one of them;
 * one that was not is made anew for each.
 * @param make makes the answer
 * @param isCostly whether an answer is to be kept
 */
export function briefly<T extends object>(
  make: () => Promise<T>,
  isCostly: (answer: T) => boolean,
): () => Promise<T> {
  let kept: T | null = null
  let wasCostly = false
  let making: Promise<T> | null = null
  const made = async (): Promise<T> => {
    try {
      const answer = await make()
      wasCostly = isCostly(answer)
      if (!wasCostly) return answer
      kept = answer
      setTimeout(() => (kept = null), keptMs).unref()
      return answer
    } finally {
      making = null
    }
  }
  return async () => {
    if (kept !== null) return kept
    if (making !== null && wasCostly) return making
    const own = made()
    making = own
    return own
  }
}
