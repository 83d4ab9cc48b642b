/** Lines of groups in memory, as bytes: texts that wait cost more than making them. */
export type WaitingLines = {
  /** Whether another line may wait. */
  hasRoom: (line: string) => boolean
  add: (group: number, line: string) => void
  /** How many lines a group has. */
  count: (group: number) => number
  /** The lines of a group, in the order they came. */
  of: (group: number) => string[]
  /** Forgets all lines, so that others can wait where they were. */
  clear: () => void
  /** Afterwards there is nothing. */
  close: () => void
}

/** Bytes that may wait in this process: as many as those of a small distribution. */
const mostInAll = 8 << 20
/** Bytes that each list may have in any case. */
const leastBytes = 4 << 20
/** Bytes of memory that are taken at once. */
const blockBytes = 1 << 20
const none = -1

/** Bytes of all lists. */
let taken = 0

type Block = { bytes: Buffer; used: number }

/** @param mostBytes that may wait in all lists of this process; four megabytes may in any case */
export function openWaitingLines(mostBytes = mostInAll): WaitingLines {
  let blocks: Block[] = []
  let current = 0
  let own = 0
  let isClosed = false
  let blockOf: number[] = []
  let starts: number[] = []
  let ends: number[] = []
  /** Lines of a group are a chain of numbers that ends in `none`: arrays of their own would be longer than the lines. */
  let nexts: number[] = []
  const firsts: number[] = []
  const lasts: number[] = []
  const fits = (index: number, length: number): boolean => {
    const block = blocks[index]
    return block !== undefined && block.used + length <= block.bytes.length
  }
  const textOf = (line: number): string =>
    blocks[blockOf[line] ?? 0]?.bytes.toString('utf8', starts[line], ends[line]) ?? ''
  const forget = (): void => {
    for (const block of blocks) block.used = 0
    current = 0
    blockOf = []
    starts = []
    ends = []
    nexts = []
    firsts.fill(none)
  }
  const numbersOf = function* (group: number): Generator<number> {
    for (let line = firsts[group] ?? none; line !== none; line = nexts[line] ?? none) yield line
  }
  return {
    hasRoom(line) {
      const length = line.length * 3 // no character is longer as UTF-8
      if (fits(current, length) || fits(current + 1, length)) return true
      return own < leastBytes || taken + Math.max(blockBytes, length) <= mostBytes
    },
    add(group, line) {
      const length = line.length * 3
      if (!fits(current, length) && blocks.length > 0) current += 1
      if (!fits(current, length)) {
        const bytes = Buffer.allocUnsafeSlow(Math.max(blockBytes, length))
        current = blocks.push({ bytes, used: 0 }) - 1
        own += bytes.length
        taken += bytes.length
      }
      const block = blocks[current]
      if (block === undefined) throw new Error('a block was made and is not there')
      const start = block.used
      block.used += block.bytes.write(line, start)
      const number = starts.push(start) - 1
      ends.push(block.used)
      blockOf.push(current)
      nexts.push(none)
      while (firsts.length <= group) lasts.push(firsts.push(none) - 1)
      if (firsts[group] === none) firsts[group] = number
      else nexts[lasts[group] ?? 0] = number
      lasts[group] = number
    },
    count: (group) => numbersOf(group).reduce((sum) => sum + 1, 0),
    of(group) {
      if (isClosed) throw new Error('this list is no longer there')
      return Array.from(numbersOf(group), textOf)
    },
    clear: forget,
    close() {
      isClosed = true
      forget()
      blocks = []
      taken -= own
      own = 0
    },
  }
}
