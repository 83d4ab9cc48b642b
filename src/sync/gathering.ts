import { Complaint } from '../errors.ts'
import { jsonOfItems } from '../wire/schema.ts'
import type { Packages, ReportedArtifact, ReportedPackage } from '../wire/packages.ts'
import { copied } from './debian-packages.ts'
import { openScratchFile, type ScratchFile } from './scratch-file.ts'
import { openWaitingLines, type WaitingLines } from './waiting-lines.ts'

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

/** Bytes that are written at once. */
const batchBytes = 1 << 16

/**
 * Groups the artifacts of an index as long as you like. What is too long for memory is sorted in pieces that are merged
 * from disk (Knuth, The Art of Computer Programming 5.4), so only the keys are in memory.
 */
export function openGathering(folder: string, order: GroupOrder, mostBytes?: number): Gathering {
  const groups = new Map<string, number>()
  const keys: string[] = []
  const runs: { from: number; to: number }[] = []
  const sorted = openScratchFile(folder)
  const whole = openScratchFile(folder)
  const waiting = openWaitingLines(mostBytes)
  const compare = (a: number, b: number): number => {
    if (order === 'found') return a - b
    const [left = '', right = ''] = [keys[a], keys[b]]
    return left < right ? -1 : Number(left > right)
  }
  const inOrder = (): Iterable<number> =>
    order === 'found' ? groups.values() : Uint32Array.from(groups.values()).sort(compare)
  const settle = (): void => {
    const from = sorted.size()
    writeLines(sorted, labelled(waiting, inOrder()))
    runs.push({ from, to: sorted.size() })
    waiting.clear()
  }
  const put = (group: number, content: unknown): void => {
    const line = JSON.stringify(content)
    if (!waiting.hasRoom(line)) settle()
    waiting.add(group, line)
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
      const count = groups.size
      if (runs.length === 0) {
        const found = Uint32Array.from(inOrder())
        groups.clear()
        for (const group of found) if (waiting.count(group) > 2) packageIn(waiting, group)
        return packagesIn(count, function* () {
          for (const group of found) yield packageIn(waiting, group)
        })
      }
      settle()
      waiting.close()
      groups.clear()
      const lines = merged(
        runs.map(({ from, to }) => linesOf(sorted, from, to)),
        compare,
      )
      writeLines(whole, packagesOf(lines))
      sorted.close()
      return packagesIn(count, () => whole.lines(0, whole.size()))
    },
    close() {
      waiting.close()
      sorted.close()
      whole.close()
    },
  }
}

/** The lines of some groups, each after the number of its group. */
function* labelled(waiting: WaitingLines, groups: Iterable<number>): Generator<string> {
  for (const group of groups) for (const text of waiting.of(group)) yield `${group} ${text}`
}

function writeLines(file: ScratchFile, lines: Iterable<string>): void {
  let batch = ''
  for (const line of lines) {
    batch += `${line}\n`
    if (batch.length < batchBytes) continue
    file.write(Buffer.from(batch))
    batch = ''
  }
  file.write(Buffer.from(batch))
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

function packageIn(waiting: WaitingLines, group: number): string {
  const [head = '', ...artifacts] = waiting.of(group)
  return packageOf(head, new Set(artifacts))
}

/** What differs may still be about the same file. */
function packageOf(head: string, artifacts: ReadonlySet<string>): string {
  if (artifacts.size < 2) return joined(head, artifacts)
  const byUrl = new Map<string, string>()
  for (const text of artifacts) {
    const url = urlIn(text)
    const twin = byUrl.get(url)
    if (twin === undefined) byUrl.set(url, text)
    else if (artifactOf(twin).sha256 !== artifactOf(text).sha256)
      throw new Complaint(`the indexes disagree on ${artifactOf(text).url}`)
  }
  return joined(head, byUrl.values())
}

/** The address in the JSON of an artifact, in front of its hash: JSON would escape these quotes in a text. */
function urlIn(text: string): string {
  const start = text.indexOf('"url":"') + 7
  return text.slice(start, text.indexOf('","', start))
}

function artifactOf(text: string): ReportedArtifact {
  return JSON.parse(text) as ReportedArtifact // as `put` wrote it
}

function joined(head: string, artifacts: Iterable<string>): string {
  return `${head.slice(0, -1)},"artifacts":[${[...artifacts].join(',')}]}`
}

function packagesIn(length: number, texts: () => Iterable<string>): Packages {
  return {
    length,
    [jsonOfItems]: texts,
    *[Symbol.iterator]() {
      for (const text of texts()) yield JSON.parse(text) as ReportedPackage // as it was written
    },
  }
}
