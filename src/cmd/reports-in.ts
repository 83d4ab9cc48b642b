import { decompressed } from '../compression.ts'
import { openScratchFile, type ScratchFile } from '../sync/scratch-file.ts'
import { packagesIn } from '../sync/gathering.ts'
import { PackageReport, ReportedPackage, type ReportToSend } from '../wire/packages.ts'
import { checked } from '../wire/schema.ts'
import { scanReports } from './reports-scan.ts'

/** Most bytes of reports, unpacked: they are kept on disk until all are sent. */
const limit = 4_000_000_000
const what = 'standard input'

/**
 * Package reports as programs write them: one JSON object, an array of them, or one on each line; compressed or not.
 * All are read and checked before the first one is given out; meanwhile their packages are in a file below `folder`, and a
 * report can be gone through until the next one is asked for.
 * @throws Complaint naming the report and the member that is wrong
 */
export async function* readReports(
  input: AsyncIterable<Uint8Array>,
  folder: string,
): AsyncGenerator<ReportToSend> {
  const file = openScratchFile(folder)
  try {
    yield* await checkedReports(input, file)
  } finally {
    file.close()
  }
}

async function checkedReports(input: AsyncIterable<Uint8Array>, file: ScratchFile): Promise<ReportToSend[]> {
  const reports: ReportToSend[] = []
  let [from, count] = [0, 0]
  const take = (given: unknown): void => {
    const name = `report ${reports.length + 1}, package ${++count}`
    file.write(JSON.stringify(checked(ReportedPackage, given, name)))
  }
  const scanner = scanReports(what, {
    onPackage: take,
    onReport(document) {
      const { packages, ...head } = checked(PackageReport, document, `report ${reports.length + 1}`)
      for (const one of packages) take(one) // those of a list whose name is written in an odd way
      reports.push({ ...head, packages: packagesIn(file, from, file.size(), count) })
      ;[from, count] = [file.size(), 0]
    },
  })
  for await (const chunk of decompressed(input, { limit, what })) scanner.read(chunk)
  scanner.end()
  return reports
}
