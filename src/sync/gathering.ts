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

/** Bytes of lines that are sorted in memory; they wait as bytes, since texts that wait cost more than making them. */
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
  const waiting = Buffer.alloc(atOnce)
  let used = 0
  let groupOf: number[] = []
  let ends: number[] = []
  const byKey = (a: number, b: number): number => {
    const [left = '', right = ''] = [keys[a], keys[b]]
    return left < right ? -1 : Number(left > right)
  }
  const compare = order === 'found' ? (a: number, b: number): number => a - b : byKey
  const settle = (): void => {
    const from = sorted.size()
    const order = Uint32Array.from(groupOf.keys()).sort((a, b) => compare(groupOf[a] ?? 0, groupOf[b] ?? 0))
    const lines = Buffer.allocUnsafe(used)
    let at = 0
    for (const line of order) at += waiting.copy(lines, at, line === 0 ? 0 : ends[line - 1], ends[line])
    sorted.write(lines)
    runs.push({ from, to: sorted.size() })
    used = 0
    groupOf = []
    ends = []
  }
  const put = (group: number, content: unknown): void => {
    const line = `${group} ${JSON.stringify(content)}\n`
    if (used + line.length * 3 > atOnce) settle() // no character is longer as UTF-8
    used += waiting.write(line, used)
    groupOf.push(group)
    ends.push(used)
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
    },
    finish() {
      settle()
      const count = groups.size
      groups.clear()
      const lines = merged(
        runs.map(({ from, to }) => linesOf(sorted, from, to)),
        compare,
      )
      for (const one of packagesOf(lines)) whole.write(Buffer.from(`${one}\n`))
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

/** Each group as JSON: its first line is its head, the others are its artifacts. */
function* packagesOf(lines: Iterable<Line>): Generator<string> {
  let group = -1
  let head = ''
  const artifacts = new Set<string>()
  for (const line of lines) {
    if (line.group === group) {
      artifacts.add(line.text)
      continue
    }
    if (group >= 0) yield packageOf(head, artifacts)
    group = line.group
    head = line.text
    artifacts.clear()
  }
  if (group >= 0) yield packageOf(head, artifacts)
}

/** What differs may still be about the same file. */
function packageOf(head: string, artifacts: ReadonlySet<string>): string {
  if (artifacts.size < 2) return joined(head, artifacts)
  const byUrl = new Map<string, { sha256: string | null; text: string }>()
  for (const text of artifacts) {
    const { url, sha256 } = JSON.parse(text) as ReportedArtifact // as `put` wrote it
    const twin = byUrl.get(url)
    if (twin === undefined) byUrl.set(url, { sha256, text })
    else if (twin.sha256 !== sha256) throw new Complaint(`the indexes disagree on ${url}`)
  }
  return joined(
    head,
    byUrl.values().map(({ text }) => text),
  )
}

function joined(head: string, artifacts: Iterable<string>): string {
  return `${head.slice(0, -1)},"artifacts":[${[...artifacts].join(',')}]}`
}

function packagesIn(file: ScratchFile, length: number): Packages {
  return {
    length,
    *[Symbol.iterator]() {
      for (const line of file.lines(0, file.size())) yield JSON.parse(line) as ReportedPackage // as it was written
    },
  }
}
