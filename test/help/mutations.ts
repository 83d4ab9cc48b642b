/** Numbers that look random and are the same at each run (Park and Miller's generator). */
export function numbers(seed: number): (below: number) => number {
  let state = seed
  return (below) => {
    state = (state * 48_271) % 2_147_483_647
    return state % below
  }
}

/** The same bytes with one thing wrong: a bit, an end, a part missing, doubled or overwritten. */
export function mutated(bytes: Uint8Array, next: (below: number) => number): Buffer {
  const copy = Buffer.from(bytes)
  const at = next(copy.length)
  const length = 1 + next(200)
  switch (next(5)) {
    case 0:
      copy[at] = (copy[at] ?? 0) ^ (1 << next(8))
      return copy
    case 1:
      return copy.subarray(0, at)
    case 2:
      return Buffer.concat([copy.subarray(0, at), copy.subarray(at + length)])
    case 3:
      return Buffer.concat([copy.subarray(0, at + length), copy.subarray(at)])
    default:
      return copy.fill(next(256), at, Math.min(at + length, copy.length))
  }
}
