import { Complaint } from '../errors.ts'
import { jsonOfItems } from '../wire/schema.ts'
import type { Packages, ReportedArtifact, ReportedPackage } from '../wire/packages.ts'
import { openScratchFile, type ScratchFile } from './scratch-file.ts'
import { openSorting } from './sorting.ts'

/** What a report says of a source package beside its artifacts. */
export type Head = Omit<ReportedPackage, 'artifacts'>

/** The packages of one report, one after the other. */
export type PackageList = {
  /**
   * @param artifacts each as JSON; the same one may be there several times
   * @throws Complaint where one comes with two hashes
   */
  add: (head: Head, artifacts: readonly string[]) => void
  /** All that were added, which can be gone through until the list is closed. */
  packages: () => Packages
  close: () => void
}

/** Opens a list that is as long as you like; it is in a file below `folder`. */
export function openPackageList(folder: string): PackageList {
  const file = openScratchFile(folder)
  let length = 0
  return {
    add(head, artifacts) {
      file.write(packageOf(JSON.stringify(head), artifacts))
      length += 1
    },
    packages: () => packagesIn(file, 0, file.size(), length),
    close: file.close,
  }
}

/** `length` packages, each written as one line of JSON between two places of a file; they are read when they are asked for. */
export function packagesIn(file: ScratchFile, from: number, to: number, length: number): Packages {
  const texts = (): Iterable<string> => file.lines(from, to)
  return {
    length,
    [jsonOfItems]: texts,
    *[Symbol.iterator]() {
      for (const text of texts()) yield JSON.parse(text) as ReportedPackage // as it was written
    },
  }
}

/** The packages of one report while an index is read, grouped by what they are built from. */
export type Gathering = {
  /** Adds an artifact to the group of `key`; `head` is asked for with the first one. */
  add: (key: string, artifact: ReportedArtifact, head: () => Head) => void
  /**
   * All groups in the order of their keys, which can be gone through until the sync is over.
   * @throws Complaint where an artifact comes twice, with another hash
   */
  finish: () => Packages
  close: () => void
}

/** Artifacts are objects of JSON; this marks a line that has a head. */
const headMark = '#'

/**
 * Groups the artifacts of an index as long as you like.
 * @param mostBytes that may wait in memory (`openSorting`)
 */
export function openGathering(folder: string, mostBytes?: number): Gathering {
  const sorting = openSorting(folder, mostBytes)
  const list = openPackageList(folder)
  return {
    add(key, artifact, head) {
      if (!sorting.isAtHand(key)) sorting.add(key, headMark + JSON.stringify(head()))
      sorting.add(key, JSON.stringify(artifact))
    },
    finish() {
      for (const { lines } of sorting.groups()) {
        const [first = '', ...others] = lines
        const head = JSON.parse(first.slice(headMark.length)) as Head // as `add` wrote it
        list.add(
          head,
          others.filter((line) => !line.startsWith(headMark)),
        )
      }
      sorting.close()
      return list.packages()
    },
    close() {
      sorting.close()
      list.close()
    },
  }
}

/** What differs may still be about the same file. */
function packageOf(head: string, artifacts: readonly string[]): string {
  if (artifacts.length < 2) return joined(head, artifacts)
  const byUrl = new Map<string, string>()
  for (const text of artifacts) {
    const url = urlIn(text)
    const twin = byUrl.get(url)
    if (twin === undefined) byUrl.set(url, text)
    else if (twin !== text && artifactOf(twin).sha256 !== artifactOf(text).sha256)
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
  return JSON.parse(text) as ReportedArtifact // as it was written
}

function joined(head: string, artifacts: Iterable<string>): string {
  return `${head.slice(0, -1)},"artifacts":[${[...artifacts].join(',')}]}`
}
