/** What an import would change, found with the same memory for any number of packages. */
import { tmpdir } from 'node:os'
import type { Client } from '../client.ts'
import { printable } from '../log.ts'
import { openScratchFile } from '../sync/scratch-file.ts'
import { openSorting, type Sorting } from '../sync/sorting.ts'
import { listBinaryPackages, type ReportToSend } from '../wire/packages.ts'
import { listQueue } from '../wire/queue.ts'
import { recordsOf } from './lists.ts'

/** Binary packages as people read them, in the order of their names. */
type Titles = { count: number; all: () => Iterable<string> }
/** `queued` is how many build inputs would be queued. */
export type Changes = { added: Titles; gone: Titles; unchanged: number; queued: number }

/** What lines of a title or of an input begin with: who told it. */
const [reported, known, open, queued] = ['r', 'k', 'o', 'q'] as const

/**
 * Tells `use` what an import would add to the packages that the server lists, take away from them, and queue. Its titles
 * are there until `use` is done.
 */
export async function foretold<T>(
  report: ReportToSend,
  client: Client,
  use: (changes: Changes) => Promise<T>,
): Promise<T> {
  using opened = new DisposableStack()
  const closedAtEnd = <O extends { close: () => void }>(one: O): O =>
    opened.adopt(one, ({ close }) => close())
  const titles = closedAtEnd(openSorting(tmpdir()))
  const inputs = closedAtEnd(openSorting(tmpdir()))
  const added = titlesIn(closedAtEnd(openScratchFile(tmpdir())))
  const gone = titlesIn(closedAtEnd(openScratchFile(tmpdir())))
  await addKnown(titles, report, client)
  addReported(titles, inputs, report)
  let unchanged = 0
  for (const { key, lines } of titles.groups()) {
    const verdicts = lines.filter((line) => line.startsWith(known))
    const files = lines.filter((line) => line.startsWith(reported))
    if (files.length === 0) gone.add(key)
    else if (verdicts.length > 0) unchanged++
    else added.add(key)
    if (verdicts.length > 0 && verdicts.every((line) => line === `${known}GOOD`)) continue
    for (const line of files) addOpen(inputs, line.slice(reported.length))
  }
  return await use({ added, gone, unchanged, queued: await newlyQueued(inputs, report, client) })
}

function titlesIn(file: ReturnType<typeof openScratchFile>): Titles & { add: (title: string) => void } {
  return {
    count: 0,
    all: () => file.lines(0, file.size()),
    add(title) {
      file.write(title)
      this.count++
    },
  }
}

function addReported(titles: Sorting, inputs: Sorting, { packages }: ReportToSend): void {
  for (const { url, artifacts } of packages) {
    const input = JSON.stringify(url)
    for (const one of artifacts) titles.add(titleOf(one), reported + input)
    if (artifacts.length === 0) addOpen(inputs, input)
  }
}

function addOpen(inputs: Sorting, input: string): void {
  if (!inputs.isAtHand(input)) inputs.add(input, open)
}

function originOf({ distribution, release }: ReportToSend): { distribution: string; release?: string } {
  return { distribution, ...(release === null ? {} : { release }) }
}

/** Adds the packages that the server lists in the scope of a report, with their verdicts. */
async function addKnown(titles: Sorting, report: ReportToSend, client: Client): Promise<void> {
  const architectures = new Set([report.architecture])
  for (const { artifacts } of report.packages)
    for (const { architecture } of artifacts) architectures.add(architecture)
  const asked = { ...originOf(report), seen_only: true }
  for await (const record of recordsOf(client, listBinaryPackages, asked)) {
    const isOfScope = record.release === report.release && record.seen_in_last_sync
    if (isOfScope && architectures.has(record.architecture))
      titles.add(titleOf(record), known + record.status)
  }
}

/** How many inputs with something to do neither wait nor run already. */
async function newlyQueued(inputs: Sorting, report: ReportToSend, client: Client): Promise<number> {
  const { architecture } = report
  for await (const job of recordsOf(client, listQueue, { ...originOf(report), architecture })) {
    if (job.architecture === architecture) inputs.add(JSON.stringify(job.url), queued)
  }
  return Iterator.from(inputs.groups()).reduce((sum, { lines }) => sum + Number(!lines.includes(queued)), 0)
}

function titleOf(one: {
  name: string
  version: string
  architecture: string
  component: string | null
}): string {
  const component = one.component === null ? '' : `, ${one.component}`
  return printable(`${one.name} ${one.version} (${one.architecture}${component})`)
}
