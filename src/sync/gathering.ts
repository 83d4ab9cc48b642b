import { Complaint } from '../errors.ts'
import type { Packages, ReportedArtifact, ReportedPackage } from '../wire/packages.ts'
import { copied } from './debian-packages.ts'
import { openScratchFile, type ScratchFile } from './scratch-file.ts'

/** What a report says of a source package beside its artifacts. */
export type Head = Omit<ReportedPackage, 'artifacts'>

/** The packages of one report while an index is read, grouped by what they are built from. */
export type Gathering = {
  /** Adds an artifact to the group of `key`; `head` is asked for with the first one. */
  add: (key: string, artifact: ReportedArtifact, head: () => Head) => void
  /**
   * All groups, which can be gone through until the sync is over.
   * @throws Complaint where an artifact comes twice, with another hash
   */
  finish: () => Packages
  close: () => void
}

/** `found`: as the first artifact of each comes; `key`: by the text of the key. */
export type GroupOrder = 'found' | 'key'

type Line = { group: number; text: string }

/** Characters of lines that are sorted in memory. */
const atOnce = 2 << 20

/**
 * Groups the artifacts of an index as long as you like: they are sorted in pieces that are merged from disk (Knuth, The
 * Art of Computer Programming 5.4), so only the keys are in memory.
 */
export function openGathering(folder: string, order: GroupOrder): Gathering {
  const groups = new Map<string, number>()
  const keys: string[] = []
  const runs: { from: number; to: number }[] = []
  const sorted = openScratchFile(folder)
  const whole = openScratchFile(folder)
  let waiting: Line[] = []
  let length = 0
  const byKey = (a: number, b: number): number => {
    const [left = '', right = ''] = [keys[a], keys[b]]
    return left < right ? -1 : Number(left > right)
  }
  const compare = order === 'found' ? (a: number, b: number): number => a - b : byKey
  const put = (group: number, content: unknown): void => {
    const text = JSON.stringify(content)
    waiting.push({ group, text })
    length += text.length
  }
  const settle = (): void => {
    const from = sorted.size()
    const lines = waiting.sort((a, b) => compare(a.group, b.group))
    sorted.write(lines.map(({ group, text }) => `${group} ${text}\n`).join(''))
    runs.push({ from, to: sorted.size() })
    waiting = []
    length = 0
  }
  return {
    add(key, artifact, head) {
      let group = groups.get(key)
      if (group === undefined) {
        const own = copied(key)
        group = groups.size
        groups.set(own, group)
        if (order === 'key') keys.push(own)
        put(group, head())
      }
      put(group, artifact)
      if (length > atOnce) settle()
    },
    finish() {
      settle()
      const count = groups.size
      groups.clear()
      const lines = merged(
        runs.map(({ from, to }) => linesOf(sorted, from, to)),
        compare,
      )
      for (const one of packagesOf(lines)) whole.write(`${JSON.stringify(one)}\n`)
      sorted.close()
      return packagesIn(whole, count)
    },
    close() {
      sorted.close()
      whole.close()
    },
  }
}

function* linesOf(file: ScratchFile, from: number, to: number): Generator<Line> {
  for (const line of file.lines(from, to)) {
    const end = line.indexOf(' ')
    yield { group: Number(line.slice(0, end)), text: line.slice(end + 1) }
  }
}

/** Sorted lines of all; those of one group in the order of the runs they are in. */
function* merged(runs: Generator<Line>[], compare: (a: number, b: number) => number): Generator<Line> {
  const heads = runs.map((run) => ({ run, line: nextOf(run) }))
  for (;;) {
    let first: (typeof heads)[number] | null = null
    for (const head of heads) {
      if (head.line === null) continue
      if (first === null || first.line === null || compare(head.line.group, first.line.group) < 0)
        first = head
    }
    if (first === null || first.line === null) return
    yield first.line
    first.line = nextOf(first.run)
  }
}

function nextOf(run: Generator<Line>): Line | null {
  const next = run.next()
  return next.done === true ? null : next.value
}

/** The first line of each group is its head, the others its artifacts. */
function* packagesOf(lines: Iterable<Line>): Generator<ReportedPackage> {
  let current: { group: number; head: Head } | null = null
  const artifacts = new Map<string, ReportedArtifact>()
  for (const { group, text } of lines) {
    if (current === null || current.group !== group) {
      if (current !== null) yield packageOf(current.head, artifacts)
      current = { group, head: JSON.parse(text) as Head } // as `put` wrote it
      artifacts.clear()
      continue
    }
    const artifact = JSON.parse(text) as ReportedArtifact // as `put` wrote it
    const twin = artifacts.get(artifact.url)
    if (twin === undefined) artifacts.set(artifact.url, artifact)
    else if (twin.sha256 !== artifact.sha256) throw new Complaint(`the indexes disagree on ${artifact.url}`)
  }
  if (current !== null) yield packageOf(current.head, artifacts)
}

function packageOf(
  { name, version, url, maintainer }: Head,
  artifacts: ReadonlyMap<string, ReportedArtifact>,
): ReportedPackage {
  return { name, version, url, artifacts: [...artifacts.values()], maintainer }
}

function packagesIn(file: ScratchFile, length: number): Packages {
  return {
    length,
    *[Symbol.iterator]() {
      for (const line of file.lines(0, file.size())) yield JSON.parse(line) as ReportedPackage // as it was written
    },
  }
}
