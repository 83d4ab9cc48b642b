import { Complaint } from '../errors.ts'
import { openScratchFile, type ScratchFile } from './scratch-file.ts'
import { openWaitingLines, type WaitingLines } from './waiting-lines.ts'

/** Lines of one key, in the order in which they came. */
type Group = { key: string; lines: string[] }

/** Lines that are told apart by keys; neither has a line feed, keys have no tab. */
export type Sorting = {
  add: (key: string, line: string) => void
  /** Whether lines of this key are in memory: what is the same for all of them need not be said again. */
  isAtHand: (key: string) => boolean
  /**
   * Each key once, in the order of the keys. Nothing can be added then, nor this asked a second time.
   * @throws Complaint where one key has more lines than would fit in memory
   */
  groups: () => Generator<Group>
  close: () => void
}

/** Keys that wait in memory at once. */
const mostKeys = 1 << 15
/** Pieces that are merged at once: each takes its share of memory. */
const mostRuns = 16
/** Characters of the lines of one key; those of the largest source packages have a hundredth of it. */
const longestGroup = 32 * 1024 * 1024

/** A sorted piece of the file; merged ones have a higher level. */
type Run = { from: number; to: number; level: number }

/**
 * Sorts as many lines as there are with the same memory: what is too long for it is sorted in pieces that are merged
 * from disk (Knuth, The Art of Computer Programming 5.4).
 * @param mostBytes that may wait in all lists of this process (`openWaitingLines`)
 */
export function openSorting(folder: string, mostBytes?: number): Sorting {
  const runs: Run[] = []
  const file = openScratchFile(folder)
  const waiting = openWaitingLines(mostBytes)
  const numbers = new Map<string, number>()
  const write = (groups: Iterable<Group>, level: number): void => {
    const from = file.size()
    for (const { key, lines } of groups) for (const line of lines) file.write(`${key}\t${line}`)
    runs.push({ from, to: file.size(), level })
  }
  const settle = (): void => {
    write(inMemory(waiting, numbers), 0)
    waiting.clear()
    numbers.clear()
    for (let last = runs.at(-1)?.level ?? 0; ; last++) {
      const same = runs.filter(({ level }) => level === last)
      if (same.length < mostRuns) return
      runs.splice(-same.length) // levels fall from the first run to the last
      write(merged(same.map((run) => groupsOf(file, run))), last + 1)
    }
  }
  return {
    add(key, line) {
      if (!waiting.hasRoom(line) || numbers.size >= mostKeys) settle()
      let number = numbers.get(key)
      if (number === undefined) {
        number = numbers.size
        numbers.set(copied(key), number)
      }
      waiting.add(number, line)
    },
    isAtHand: (key) => numbers.has(key),
    *groups() {
      if (runs.length === 0) return yield* inMemory(waiting, numbers)
      settle()
      waiting.close()
      yield* merged(runs.map((run) => groupsOf(file, run)))
    },
    close() {
      waiting.close()
      file.close()
    },
  }
}

/** As a slice, a text would keep the whole of which it is a part in memory. */
function copied(text: string): string {
  return Buffer.from(text).toString()
}

function* inMemory(waiting: WaitingLines, numbers: ReadonlyMap<string, number>): Generator<Group> {
  for (const key of [...numbers.keys()].sort()) yield { key, lines: waiting.of(numbers.get(key) ?? 0) }
}

function* groupsOf(file: ScratchFile, { from, to }: Run): Generator<Group> {
  let current: Group = { key: '', lines: [] }
  let length = 0
  for (const whole of file.lines(from, to)) {
    const end = whole.indexOf('\t')
    const key = whole.slice(0, end)
    const line = whole.slice(end + 1)
    if (current.lines.length > 0 && key !== current.key) {
      yield current
      current = { key, lines: [] }
      length = 0
    }
    current.key = key
    current.lines.push(line)
    length += line.length
    if (length > longestGroup) throw tooMuch(key)
  }
  if (current.lines.length > 0) yield current
}

/** Lines of a key that several runs have come in the order of the runs. */
function* merged(runs: readonly Generator<Group>[]): Generator<Group> {
  const heads = runs.map((run) => ({ run, group: nextOf(run) }))
  for (;;) {
    let key: string | null = null
    for (const { group } of heads) if (group !== null && (key === null || group.key < key)) key = group.key
    if (key === null) return
    let lines: string[] = []
    for (const head of heads) {
      if (head.group?.key !== key) continue
      lines = lines.length === 0 ? head.group.lines : [...lines, ...head.group.lines]
      head.group = nextOf(head.run)
    }
    if (lines.reduce((sum, line) => sum + line.length, 0) > longestGroup) throw tooMuch(key)
    yield { key, lines }
  }
}

function nextOf(run: Generator<Group>): Group | null {
  const next = run.next()
  return next.done === true ? null : next.value
}

function tooMuch(key: string): Complaint {
  return new Complaint(`the indexes tell too much of ${key}: more than ${longestGroup} characters`)
}
